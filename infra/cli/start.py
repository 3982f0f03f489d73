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
# {example} shows every key.
"""
_ON_HOSTS, _IN_CLUSTER = "Pulumi.example.yaml", "examples/kubernetes/Pulumi.example.yaml"
#: The value of --models for this project's own.
BUNDLED = "bundled"
#: Where a cluster has them: examples/kubernetes/models.yaml makes the claim.
CLAIM = "claim://models/triton"


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
            help=f"{BUNDLED}: this project's, copied to the hosts; or their folder on each host; or s3://…; "
            f"in a cluster, where {BUNDLED} is {CLAIM}, also claim:// and image://",
        ),
    ] = BUNDLED,
    gpus: Annotated[str, typer.Option("--gpus", help="all, or none")] = "all",
    open_to_all: Annotated[
        bool, typer.Option("--open", help="no API key: whoever reaches the gateway may use it")
    ] = False,
    namespace: Annotated[
        str | None, typer.Option("--namespace", help="for a Kubernetes cluster: a namespace that exists")
    ] = None,
    context: Annotated[
        str | None, typer.Option("--context", help="the cluster's context (default: kubectl's current one)")
    ] = None,
    registry: Annotated[
        str | None, typer.Option("--registry", help="where Docker here pushes the images for a cluster")
    ] = None,
    pods: Annotated[int, typer.Option("--pods", help="in a cluster: how many pods serve")] = 2,
) -> int:
    """Write a stack file, with an API key unless --open is given. Asks for what is missing.

    The stack is on hosts, or with --namespace in a Kubernetes cluster.
    """
    path = stack_files.path_of(stack)
    if path.exists():
        raise Failed(f"{path.name} exists already.\nTo check it: fleet check -s {stack}")
    if not open_to_all:
        pulumi_command.cli()  # it encrypts the key
    if namespace is None:
        config = settings(list(host or _asked_hosts()), gateway, models, gpus)
    elif host or gateway:
        raise Failed("--host and --gateway are for a stack on hosts, --namespace is for one in a cluster")
    else:
        config = cluster_settings(namespace, context, registry, models, gpus, pods)
    parse(config, name=stack, source="what was given")
    text = _HEAD.format(example=_ON_HOSTS if namespace is None else _IN_CLUSTER) + yaml.safe_dump(
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


def cluster_settings(
    namespace: str, context: str | None, registry: str | None, models: str, gpus: str, pods: int
) -> dict[str, Any]:
    """The keys of a stack file for a cluster. Raises Failed without a registry for the images."""
    if registry is None:
        raise Failed(
            "no registry is given: Docker on this computer builds the images, and the cluster pulls them.\n"
            "To give one: fleet init STACK --namespace NAMESPACE --registry registry.example.com/gpu"
        )
    cluster = {"namespace": namespace} if context is None else {"context": context, "namespace": namespace}
    pool: dict[str, Any] = {"name": "speech", "replicas": pods}
    if gpus == "none":
        pool["gpus"] = 0
    config = {
        "target": "kubernetes",
        "kubernetes": cluster,
        "nodes": [pool],
        "images": {"registry": registry},
    }
    if models == BUNDLED:
        return config | {"models": {"source": CLAIM, "path": "./model_repository"}, "triton": {"build": True}}
    return config | {"models": {"source": models}}


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
