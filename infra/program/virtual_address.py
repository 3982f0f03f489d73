"""The virtual address of several gateways: a keepalived in a container on the host of each."""

from collections.abc import Sequence

import pulumi
import pulumi_docker as docker

from infra import names
from infra.gateway import keepalived
from infra.program.containers import container
from infra.program.host import Host
from infra.program.images import HostImage
from infra.stack import Stack

# It sets the address, and sends and reads VRRP. SETGID: it gives up its groups before it runs the check.
_CAPABILITIES = ("NET_ADMIN", "NET_RAW", "SETGID")

#: How long the gateway behind it may take to answer twice.
_WAIT_SECONDS = 120


def virtual_address(
    name: str,
    stack: Stack,
    host: Host,
    image: HostImage,
    gateway: docker.Container,
    *,
    parent: pulumi.Resource,
    needs: Sequence[pulumi.Resource],
) -> docker.Container:
    """Declares the keepalived of the gateway of that name, which is the one that `stack` has.

    It is there when its gateway can have the address. `gateway` is its nginx.
    """
    arguments = container(
        stack,
        names.keepalived_container(stack),
        names.KEEPALIVED,
        image=image.reference,
        capabilities=_CAPABILITIES,
        entrypoints=keepalived.command(stack),
        uploads=[
            docker.ContainerUploadArgs(file=names.KEEPALIVED_CONF, content=keepalived.configuration(stack)),
            docker.ContainerUploadArgs(
                file=names.KEEPALIVED_NOTIFY, content=keepalived.NOTIFY, executable=True
            ),
        ],
        # Then the next gateway may change, because this one can take the address.
        healthcheck=docker.ContainerHealthcheckArgs(
            tests=["CMD", *keepalived.HEALTHY], interval="3s", timeout="5s", retries=3, start_period="30s"
        ),
        wait=True,
        wait_timeout=_WAIT_SECONDS,
    )
    return host.declare(
        docker.Container,
        f"{name}-{names.KEEPALIVED}",
        parent=parent,
        needs=[gateway, *image.needs, *needs],
        # Two would have the address at the same time.
        delete_before_replace=True,
        # The address moves before nginx ends, when requests would fail.
        replace_with=[gateway],
        before_0_1=False,
        **arguments,
    )
