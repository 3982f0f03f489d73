"""The commands of `fleet`, and the errors that end them."""

import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer
from typer.exceptions import TyperException

from infra.cli import deploy, files, local, passed_on, start, watch
from infra.cli.screen import Failed
from infra.embedded.demonstration import DemonstrationFailed
from infra.embedded.errors import EmbeddedError
from infra.embedded.supervisor import SupervisorError
from infra.stack import StackError
from infra.stack.files import NoStackFile

_FLEET, _HERE, _HELP = "A fleet on GPU hosts", "A stack on this computer, and its state", "Checks and models"

app = typer.Typer(
    name="fleet",
    help="Speech AI on your own GPU hosts: see what will change, change exactly that, drop no request.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="A stack is the file Pulumi.<stack>.yaml. FLEET_STACK sets the one that --stack does not name.",
)


def _version(wanted: bool) -> None:
    if wanted:
        try:
            print(f"fleet {version('gpu-inference-fleet')}")
        except PackageNotFoundError:  # a checkout that is not installed
            print("fleet, from a checkout")
        raise typer.Exit


@app.callback()
def main(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Speech AI on your own GPU hosts."""


_COMMANDS: dict[str, tuple[Callable[..., int], ...]] = {
    _FLEET: (start.init, deploy.preview, deploy.deploy, deploy.rollback, deploy.destroy, deploy.env),
    _HERE: (local.up, local.down, watch.status, watch.logs),
    _HELP: (files.check, files.import_script, files.import_pools),
}
for panel, commands in _COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
for passed in (passed_on.doctor, passed_on.models, passed_on.bench):
    app.command(rich_help_panel=_HELP, context_settings=passed_on.SETTINGS)(passed)


def run(arguments: list[str]) -> int:
    """Runs one command; returns its exit status: 1 after a failure, 2 for wrong arguments."""
    try:
        return int(app(arguments, prog_name="fleet", standalone_mode=False) or 0)
    except typer.Exit as ended:
        return ended.exit_code
    except typer.Abort:  # Ctrl-C
        return 130
    except (
        Failed,
        NoStackFile,
        StackError,
        EmbeddedError,
        SupervisorError,
        DemonstrationFailed,
    ) as error:
        print(f"error: {error}", file=sys.stderr)
    except TyperException as error:  # a wrong argument
        print(f"error: {error}\nFor help: fleet --help", file=sys.stderr)
        return 2
    except OSError as error:  # a full disk, a folder that this user may not write
        print(f"error: {error.filename or 'the system'}: {error.strerror}", file=sys.stderr)
    return 1
