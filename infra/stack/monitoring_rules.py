"""The rules of a stack's monitoring that span several keys."""

import ipaddress
from collections.abc import Iterator

from infra.stack.gateway import Gateway
from infra.stack.hosts import EmbeddedHost
from infra.stack.monitoring import Monitoring
from infra.stack.problems import Problem
from infra.stack.tls import is_public


def check(monitoring: Monitoring, gateway: Gateway) -> Iterator[Problem]:
    """Yields the problems of every rule."""
    if monitoring.existing is not None:
        others = sorted(monitoring.model_fields_set - {"existing"})
        if others:
            yield Problem(
                "monitoring.existing", f"nothing is started beside it; leave out {', '.join(others)}"
            )
        return
    host = monitoring.host or gateway.each[0].host
    if isinstance(host, EmbeddedHost):
        yield Problem("monitoring.host", "needs a Docker host; expected ssh://… or unix://…")
    for key in ("prometheus", "alertmanager"):
        part = getattr(monitoring, key)
        if part is not None and (ipaddress.ip_address(part.bind).is_unspecified or is_public(part.bind)):
            yield Problem(
                f"monitoring.{key}.bind",
                f"has no password; expected 127.0.0.1 or a private address of its host, got {part.bind}",
            )
    grafana = monitoring.grafana
    if grafana is not None and grafana.password is None and not _is_loopback(grafana.bind):
        yield Problem("monitoring.grafana.password", f"required where bind is {grafana.bind}")
    email = monitoring.alertmanager.email if monitoring.alertmanager is not None else None
    if email is not None and (email.username is None) != (email.password is None):
        missing = "username" if email.username is None else "password"
        yield Problem(f"monitoring.alertmanager.email.{missing}", "required with the other of the two")


def ports(monitoring: Monitoring) -> Iterator[tuple[str, int]]:
    """The keys and ports that are open on the host of monitoring itself."""
    if monitoring.existing is not None:
        return
    yield "prometheus.port", monitoring.prometheus.port
    if monitoring.alertmanager is not None:
        yield "alertmanager.port", monitoring.alertmanager.port
    if monitoring.grafana is not None:
        yield "grafana.port", monitoring.grafana.port


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback
