"""The console beside the embedded gateway: a process that watches the nodes."""

import sys

import msgspec

from inference_service.console.settings import ConsoleSettings
from infra.digest import digest, files_in
from infra.embedded.declarations import GatewayDeclaration
from infra.embedded.environment import process_environment
from infra.embedded.layout import Layout
from infra.embedded.program import Program, write_private
from infra.embedded.supervisor import Supervisor
from infra.paths import PACKAGE

CONSOLE = "console"

_STOP_SECONDS = 5


def apply_console(layout: Layout, gateway: GatewayDeclaration) -> list[str]:
    """Start the console, or restart it where it differs from the declaration.

    Without one in the declaration, a console that runs is stopped. Returns the names of these programs.
    """
    if gateway.console is None:
        return Supervisor(layout).remove([CONSOLE])
    settings = ConsoleSettings(
        stack=gateway.console.stack,
        nodes=gateway.console.nodes,
        gateway=gateway.url,
        probe=gateway.url,
        socket=str(layout.socket(CONSOLE)),
        log_socket=str(layout.socket("console-log")),
        api_keys=tuple(gateway.site.api_keys),
        password=gateway.console.password,
    )
    text = msgspec.json.format(msgspec.json.encode(settings)).decode()
    write_private(layout.console, text)
    service = PACKAGE / "inference_service"
    program = Program(
        name=CONSOLE,
        command=[sys.executable, "-m", "inference_service.console", str(layout.console)],
        environment=process_environment() | {"PYTHONPATH": str(PACKAGE)},
        directory=layout.root,
        revision=digest(files_in(service / "console", service / "pages"), text),
        stop_seconds=_STOP_SECONDS,
    )
    return Supervisor(layout).apply([program])
