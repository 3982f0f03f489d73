"""The console beside a gateway: a container from the service's image."""

import json
from collections.abc import Sequence

import pulumi
import pulumi_command as command
import pulumi_docker as docker

from inference_service.console.settings import API_KEYS, PASSWORD, TLS
from infra import names
from infra.certificates import Identity
from infra.gateway.render import DOCKER_HOST
from infra.program.command import step
from infra.program.containers import USER, container
from infra.program.host import Host
from infra.program.images import HostImage
from infra.service_settings import keys_text
from infra.stack import Stack
from infra.steps.console import Limit

#: Python, its threads, and the init.
_PIDS = 64
_STOP_SECONDS = 5

# Not a module of the service: its imports would take ten times the processor time.
_HEALTHY = f"""\
import socket, sys
asked = socket.socket(socket.AF_UNIX)
asked.settimeout(4)
asked.connect("{names.CONSOLE_MOUNT}/{names.CONSOLE_SOCKET}")
asked.sendall(b"GET /console/api/entrance HTTP/1.0\\r\\n\\r\\n")
sys.exit(b" 200 " not in asked.recv(64))
"""


def console(
    name: str,
    stack: Stack,
    host: Host,
    image: HostImage,
    client: pulumi.Output[Identity] | None,
    *,
    parent: pulumi.Resource,
    needs: Sequence[pulumi.Resource],
) -> None:
    """Declares the console of the gateway of that name, after the network and the configuration.

    Its settings are in a file that the gateway's step writes and that a running console reads again. So
    another node, or a drained one, does not replace the container with the hour that it keeps. `client` is
    the gateway's certificate for nodes with TLS.
    """
    settings = stack.gateway.console
    secrets: dict[str, pulumi.Input[str]] = {}
    if stack.api_keys:
        secrets[API_KEYS] = keys_text(stack)
    if settings.password is not None:
        secrets[PASSWORD] = settings.password.get_secret_value()
    if client is not None:
        secrets[TLS] = client.apply(_tls)
    arguments = container(
        stack,
        names.console_container(stack),
        names.CONSOLE,
        image=image.reference,
        network=names.gateway_container(stack),
        alias=names.CONSOLE,
        command=[
            "python3",
            "-m",
            "inference_service.console",
            f"{names.CONSOLE_MOUNT}/{names.CONSOLE_SETTINGS}",
        ],
        secrets=secrets,
        memory=settings.memory,
        stop_seconds=_STOP_SECONDS,
        user=USER,
        writable=[],
        hosts=[docker.ContainerHostArgs(host=DOCKER_HOST, ip="host-gateway")],
        mounts=[
            docker.ContainerMountArgs(
                type="bind",
                source=f"{names.gateway_folder(stack)}/{names.CONSOLE_FOLDER}",
                target=names.CONSOLE_MOUNT,
            )
        ],
        healthcheck=docker.ContainerHealthcheckArgs(
            tests=["CMD", "python3", "-I", "-S", "-c", _HEALTHY],
            interval="30s",
            timeout="5s",
            retries=3,
            start_period="20s",
        ),
    )
    made = host.declare(
        docker.Container,
        f"{name}-{names.CONSOLE}",
        parent=parent,
        needs=[*image.needs, *needs],
        delete_before_replace=True,
        before_0_1=False,
        **arguments,
    )
    host.declare(
        command.local.Command,
        f"{name}-{names.CONSOLE}-limit",
        parent=parent,
        needs=[made],
        before_0_1=False,
        **step(
            "infra.steps.console",
            "limit",
            Limit(connection=host.connection, container=names.console_container(stack), pids=_PIDS),
            triggers=[made.id],
        ),
    )


def _tls(client: Identity) -> str:
    """How the console shows nodes who it is, as its environment variable has it."""
    told = {"certificate": client.certificate, "key": client.key, "authority": client.authority}
    return json.dumps({**told, "name": names.NODE_TLS_NAME})
