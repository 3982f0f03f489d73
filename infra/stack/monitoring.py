"""What watches a fleet: Prometheus with its alerts, Alertmanager, Grafana, and exporters on the hosts."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr, StringConstraints, WithJsonSchema

from infra.stack.console import Password
from infra.stack.section import Section
from infra.stack.shown import shown
from infra.stack.values import HostAddress, IpAddress, Memory, NonEmpty, Port, Secret, off

_URL = r"^https?://[^\s/]+"
_RETENTION = r"^[1-9][0-9]{0,4}(h|d|w|y)$"
_SMARTHOST = r"^[A-Za-z0-9.:\[\]-]+:[0-9]{1,5}$"


def _webhook(value: object) -> object:
    given = value.get_secret_value() if isinstance(value, SecretStr) else value
    # The message must not show the address, which has a token as often as not.
    if not isinstance(given, str) or not given.startswith(("http://", "https://")) or " " in given:
        raise ValueError("expected an address that begins with https:// or http://")
    return value


def _where(value: object) -> object:
    if value in ("auto", "existing") or isinstance(value, bool):
        return value
    raise ValueError(f"expected auto, existing, true or false, got {shown(value)}")


def _when(value: object) -> object:
    if value == "auto" or isinstance(value, bool):
        return value
    raise ValueError(f"expected auto, true or false, got {shown(value)}")


Webhook = Annotated[
    SecretStr,
    Field(strict=False),
    BeforeValidator(_webhook),
    WithJsonSchema({"type": "string", "format": "password", "pattern": _URL}),
]


class Prometheus(Section):
    """The Prometheus that reads the fleet's metrics. It has no password: only its own host reaches it unless
    `bind` is a private address."""

    image: NonEmpty = "prom/prometheus:v3.15.0"
    port: Port = 9090
    bind: IpAddress = "127.0.0.1"
    """The IP address of its host on which it is open."""
    retention: Annotated[str, StringConstraints(pattern=_RETENTION)] = "15d"
    """How long it keeps what it read: a number of hours, days, weeks or years, such as 15d."""
    memory: Memory = "1g"
    """Its container's memory limit."""


class Email(Section):
    """Alerts by e-mail."""

    to: NonEmpty
    """The address that gets them; several with commas between them."""
    sender: Annotated[NonEmpty, Field(alias="from")]
    """The address that they come from."""
    smarthost: Annotated[str, StringConstraints(pattern=_SMARTHOST)]
    """The mail server and its port, such as mail.example.com:587. The server must offer STARTTLS."""
    username: NonEmpty | None = None
    password: Secret | None = None


class Alertmanager(Section):
    """Tells people about alerts. Without `webhook` and `email` its own page alone shows them."""

    image: NonEmpty = "prom/alertmanager:v0.31.1"
    port: Port = 9093
    bind: IpAddress = "127.0.0.1"
    """The IP address of its host on which it is open."""
    memory: Memory = "128m"
    """Its container's memory limit."""
    webhook: Webhook | None = None
    """The address that gets each alert as JSON (Alertmanager's webhook). Kept as a secret."""
    email: Email | None = None


class Grafana(Section):
    """Shows the fleet's dashboards."""

    image: NonEmpty = "grafana/grafana:12.4.3"
    port: Port = 3000
    bind: IpAddress = "127.0.0.1"
    """The IP address of its host on which it is open. Any but the loopback address needs a password."""
    memory: Memory = "512m"
    """Its container's memory limit."""
    password: Password | None = None
    """The password of the user admin. Without it, everybody who reaches Grafana sees the dashboards and
    nobody changes them."""


class Exporters(Section):
    """What gives Prometheus the figures of the hosts. Exporters have no password."""

    hosts: Annotated[Literal["auto", "existing"] | bool, BeforeValidator(_where)] = "auto"
    """Node exporters. auto: on each host that Prometheus reaches at a private address. true: at public
    addresses too, where everybody reads them unless a firewall keeps them out. existing: each host has one
    already, such as Debian's prometheus-node-exporter, and Prometheus reads it."""
    gpus: Annotated[Literal["auto"] | bool, BeforeValidator(_when)] = "auto"
    """NVIDIA's DCGM exporters, on hosts with GPUs. auto and true mean the same as for `hosts`."""
    host_image: NonEmpty = "prom/node-exporter:v1.10.2"
    gpu_image: NonEmpty = "nvcr.io/nvidia/k8s/dcgm-exporter:4.5.3-4.8.2-distroless"
    host_port: Port = 9100
    gpu_port: Port = 9400


class Monitoring(Section):
    """Prometheus, its alerts, Alertmanager, Grafana and exporters, as containers of the stack."""

    host: HostAddress | None = None
    """The Docker host on which they run. Default: the (first) gateway's host."""
    prometheus: Prometheus = Field(default_factory=Prometheus)
    alertmanager: Annotated[Alertmanager | None, BeforeValidator(off)] = Field(default_factory=Alertmanager)
    """false: alerts are in Prometheus alone."""
    grafana: Annotated[Grafana | None, BeforeValidator(off)] = Field(default_factory=Grafana)
    """false: no Grafana."""
    exporters: Exporters = Field(default_factory=Exporters)
    existing: Annotated[str, StringConstraints(pattern=_URL)] | None = None
    """The address of a Prometheus that is there already: the stack starts nothing, and its output
    `prometheus` has the targets. No other key goes with it."""
