"""`fleet init`: a stack file that passes `fleet check`, private by default."""

import os
import secrets
from typing import Annotated, Any

import typer
import yaml

from infra import paths
from infra.cli import pulumi_command, stack_files
from infra.cli.screen import Failed, console, piped
from infra.stack import StackError, load_file
from infra.stack.load import PROJECT, parse

_HEAD = """\
# yaml-language-server: $schema=./stack.schema.json
# Pulumi.example.yaml shows every key.
"""
#: The value of --models for this project's own.
BUNDLED = "bundled"


def init(
    stack: Annotated[str, typer.Argument(help="the name of the new stack")],
    host: Annotated[
        list[str] | None,
        typer.Option("--host", "-H", help="a GPU host, ssh://user@address[:port]; may be repeated"),
    ] = None,
    gateway: Annotated[
        str | None, typer.Option("--gateway", help="the gateway's host (default: the first GPU host)")
    ] = None,
    models: Annotated[
        str,
        typer.Option(
            "--models",
            help=f"{BUNDLED}: this project's, copied to the hosts; or their folder on each host; or s3://…",
        ),
    ] = BUNDLED,
    gpus: Annotated[str, typer.Option("--gpus", help="all, or none")] = "all",
    open_to_all: Annotated[
        bool, typer.Option("--open", help="no API key: whoever reaches the gateway may use it")
    ] = False,
) -> int:
    """Write a stack file, with an API key unless --open is given. Asks for what is missing."""
    path = stack_files.path_of(stack)
    if path.exists():
        raise Failed(f"{path.name} exists already.\nTo check it: fleet check -s {stack}")
    if not open_to_all:
        pulumi_command.cli()  # it encrypts the key
    hosts = list(host or _asked_hosts())
    config = settings(hosts, gateway, models, gpus)
    parse(config, name=stack, source="what was given")
    text = _HEAD + yaml.safe_dump(
        {"config": {f"{PROJECT}:{key}": value for key, value in config.items()}}, sort_keys=False
    )
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)
    try:
        key = None if open_to_all else _with_key(stack)
        load_file(path)
    except (Failed, StackError):
        path.unlink()
        raise
    _tell(stack, key)
    return 0


def settings(hosts: list[str], gateway: str | None, models: str, gpus: str) -> dict[str, Any]:
    """The keys of a stack file. Raises Failed without a host."""
    if not hosts:
        raise Failed("no host is given.\nTo give one: fleet init STACK --host ssh://root@192.0.2.10")
    nodes: list[Any] = [{"host": each, "gpus": gpus} for each in hosts] if gpus != "all" else list(hosts)
    config: dict[str, Any] = {"nodes": nodes}
    if gateway is not None:
        config["gateway"] = {"host": gateway}
    if models == BUNDLED:
        # The models' Python packages are in the image that `build` makes.
        config |= {"models": {"source": "sync", "path": "./model_repository"}, "triton": {"build": True}}
    elif "://" in models:
        config["models"] = {"source": models}
    else:
        config["models"] = {"source": "host", "path": models}
    return config


def _asked_hosts() -> list[str]:
    if piped():
        return []
    found: list[str] = []
    while True:
        more = " (empty: no more)" if found else ""
        answer = str(
            typer.prompt(f"GPU host, as ssh://user@address[:port]{more}", default="", show_default=False)
        )
        if not answer:
            return found
        found.append(answer if "://" in answer else f"ssh://{answer}")


def _with_key(stack: str) -> str:
    """A new API key, encrypted in the stack file. Raises Failed."""
    key = secrets.token_urlsafe(24)
    pulumi_command.create_if_absent(stack)
    pulumi_command.read(stack, "config", "set", "--secret", f"{PROJECT}:apiKeys", secret=key)
    return key


def _tell(stack: str, key: str | None) -> None:
    screen = console()
    path = stack_files.path_of(stack)
    screen.print(f"wrote {path.name}; only you can read it, and git ignores it")
    if key is not None:
        screen.print(f"API key of the clients (also: pulumi config get {PROJECT}:apiKeys): {key}")
    if pulumi_command.defaults():
        home = pulumi_command.home()
        screen.print(f"Pulumi keeps the state and its passphrase in {home}: make a backup of it")
    if paths.pulumi_cli() is None:
        screen.print("the Pulumi CLI is missing; to install it: https://www.pulumi.com/docs/install/")
    screen.print(f"next    fleet preview -s {stack}\nthen    fleet deploy -s {stack}")
