"""The containers on the host of monitoring: what each runs, reads and answers."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from infra import names
from infra.certificates import Identity
from infra.monitoring import alertmanager, grafana, prometheus
from infra.stack import SshHost, Stack
from infra.stack.hosts import bracketed

#: Where a container sees its configurations, the one in use among them, and its data.
CONFIGURATIONS, DATA = names.MONITORING_MOUNT, "/data"
CONFIGURATION = f"{CONFIGURATIONS}/{names.CURRENT}"


@dataclass(frozen=True)
class Part:
    """One container. `port` is the same in it and on the host, where it is open at `bind`.

    `check` is the command that tests the files in their folder, in the same image. `ready` succeeds in the
    container when it serves. `reload`: whether it reads changed files after SIGHUP or has to start again.
    """

    name: str
    image: str
    bind: str
    port: int
    memory: str
    files: dict[str, str] = field(repr=False)
    command: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    check: tuple[str, ...] = ()
    ready: tuple[str, ...] = ()
    reload: Literal["signal", "restart"] = "signal"
    secret: bool = False

    @property
    def url(self) -> str:
        """The address on the host of monitoring."""
        address = names.LOOPBACK if self.bind in ("0.0.0.0", "::") else self.bind
        return f"http://{bracketed(address)}:{self.port}"


def parts(stack: Stack, client: Identity | None = None) -> list[Part]:
    """The containers of the stack's monitoring; `client` is Prometheus's certificate for nodes with TLS."""
    if stack.monitoring is None or stack.monitoring_host is None:
        return []
    return list(_parts(stack, client))


def _parts(stack: Stack, client: Identity | None) -> Iterator[Part]:
    monitoring = stack.monitoring
    assert monitoring is not None
    given = monitoring.prometheus
    files = prometheus.files(stack, client)
    own = f"http://{names.LOOPBACK}"
    yield Part(
        names.PROMETHEUS,
        given.image,
        given.bind,
        given.port,
        given.memory,
        files,
        command=(
            f"--config.file={CONFIGURATION}/{prometheus.FILE}",
            f"--storage.tsdb.path={DATA}",
            f"--storage.tsdb.retention.time={given.retention}",
            f"--web.listen-address=:{given.port}",
        ),
        check=("promtool", "check", "config", prometheus.FILE),
        ready=("promtool", "query", "instant", f"{own}:{given.port}", "vector(1)"),
        secret=prometheus.GATEWAY_KEY in files or client is not None,
    )
    if (alerts := monitoring.alertmanager) is not None:
        yield Part(
            names.ALERTMANAGER,
            alerts.image,
            alerts.bind,
            alerts.port,
            alerts.memory,
            alertmanager.files(alerts),
            command=(
                f"--config.file={CONFIGURATION}/{alertmanager.FILE}",
                f"--storage.path={DATA}",
                f"--web.listen-address=:{alerts.port}",
                # There is one, which looks for no others.
                "--cluster.listen-address=",
            ),
            check=("amtool", "check-config", alertmanager.FILE),
            ready=("amtool", f"--alertmanager.url={own}:{alerts.port}", "alert", "query"),
            secret=alerts.webhook is not None or alerts.email is not None,
        )
    if (shown := monitoring.grafana) is not None:
        yield Part(
            names.GRAFANA,
            shown.image,
            shown.bind,
            shown.port,
            shown.memory,
            grafana.files(monitoring, CONFIGURATION),
            environment={
                "GF_PATHS_CONFIG": f"{CONFIGURATION}/{grafana.FILE}",
                "GF_PATHS_PROVISIONING": f"{CONFIGURATION}/{grafana.PROVISIONING}",
                "GF_PATHS_DATA": DATA,
                "GF_PATHS_LOGS": f"{DATA}/log",
                "GF_PATHS_PLUGINS": f"{DATA}/plugins",
                "GF_SERVER_HTTP_PORT": str(shown.port),
            },
            ready=("wget", "-q", "-O", "/dev/null", f"{own}:{shown.port}/api/health"),
            reload="restart",
            secret=shown.password is not None,
        )


def told(stack: Stack) -> dict[str, str]:
    """The addresses for people: each part's on its host, and how to reach them from another computer."""
    given, host = parts(stack), stack.monitoring_host
    found = {part.name: part.url for part in given}
    if host is not None:
        found["host"] = str(host)
    if isinstance(host, SshHost):
        port = f"-p {host.port} " if host.port else ""
        forwards = " ".join(f"-L {part.port}:{part.url.removeprefix('http://')}" for part in given)
        found["reach"] = f"ssh {port}-N {forwards} {host.destination}"
    if stack.monitoring is not None and stack.monitoring.existing is not None:
        found[names.PROMETHEUS] = stack.monitoring.existing
    return found
