"""The settings of what watches a fleet in the arguments of components: keys of a stack file in snake case.

Keys that also take `false` or a word have the type `Any`: the package's schema has no unions.
"""

from typing import Any, NotRequired, TypedDict


class Prometheus(TypedDict):
    """The Prometheus that reads the fleet's metrics. It has no password: only its own host reaches it unless
    `bind` is a private address."""

    image: NotRequired[str]
    port: NotRequired[int]
    bind: NotRequired[str]
    """The IP address of its host on which it is open. Default: the loopback address."""
    retention: NotRequired[str]
    """How long it keeps what it read: a number of hours, days, weeks or years. Default: 15d."""
    memory: NotRequired[str]
    """Its container's memory limit."""


class Exporters(TypedDict):
    """What gives Prometheus the figures of the hosts. Exporters have no password."""

    hosts: NotRequired[Any]
    """Node exporters. auto: on each host that Prometheus reaches at a private address. true: at public
    addresses too. false: none. existing: each host has one already. Default: auto."""
    gpus: NotRequired[Any]
    """NVIDIA's DCGM exporters, on hosts with GPUs: auto, true or false, as for `hosts`. Default: auto."""
    host_image: NotRequired[str]
    gpu_image: NotRequired[str]
    host_port: NotRequired[int]
    gpu_port: NotRequired[int]


class Monitoring(TypedDict):
    """Prometheus, its alerts, Alertmanager, Grafana and exporters, as containers of the fleet."""

    host: NotRequired[str]
    """The Docker host on which they run. Default: the (first) gateway's host."""
    prometheus: NotRequired[Prometheus]
    alertmanager: NotRequired[Any]
    """image, port, bind, memory, webhook and email (to, from, smarthost, username, password), as in a stack
    file. false: alerts are in Prometheus alone."""
    grafana: NotRequired[Any]
    """image, port, bind, memory and password, as in a stack file. false: no Grafana."""
    exporters: NotRequired[Exporters]
    existing: NotRequired[str]
    """The address of a Prometheus that is there already: nothing is started, and the output `targets` has
    what it must read. No other key goes with it."""
