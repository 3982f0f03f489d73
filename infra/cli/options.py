"""The options that several commands have."""

from typing import Annotated

import typer

from infra.cli import stack_files

DEFAULT_STACK = "dev"

STACK = Annotated[
    str,
    typer.Option(
        "--stack",
        "-s",
        envvar="FLEET_STACK",
        help="the stack's name: Pulumi.<stack>.yaml",
        autocompletion=stack_files.known,
    ),
]
YES = Annotated[bool, typer.Option("--yes", "-y", help="do not ask before the changes")]
JSON = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]
REFRESH = Annotated[
    bool, typer.Option("--refresh", help="ask first what is really there, so that changes by hand are seen")
]
