"""The certificates of the stack's own authority, with which nodes and gateways know each other."""

import datetime
import shlex

from cryptography import x509

from infra import names
from infra.doctor.answers import failing
from infra.doctor.checks.certificate import expiry
from infra.doctor.findings import Outcome, problem
from infra.doctor.sites.docker_node import DockerNodeSite
from infra.doctor.sites.gateway import GatewaySite
from infra.stack import Stack


async def node(site: DockerNodeSite) -> Outcome:
    """Until when the certificate of a node's service is valid. It is read from the container: its port may
    not be reachable from this computer."""
    with failing(site.start(names.SERVICE)):
        environment = (await site.in_use()).environment
    return valid(environment.get(names.NODE_CERTIFICATE, ""), site.stack)


async def gateway(site: GatewaySite) -> Outcome:
    """Until when the certificate is valid that the gateway shows to nodes."""
    assert site.access is not None
    file = f"{names.gateway_folder(site.stack)}/{names.CURRENT}/{names.CLIENT_CERTIFICATE}"
    with failing(_renewal(site.stack)):
        text = await site.access.output(f"cat {shlex.quote(file)}")
    return valid(text, site.stack)


def valid(pem: str, stack: Stack, now: datetime.datetime | None = None) -> Outcome:
    """Whether a certificate of the stack's authority is valid. The time is that of the call, unless given.

    `pulumi up` renews one with less than a third of its life left, so a warning says that it did not run.
    """
    try:
        read = x509.load_pem_x509_certificate(pem.encode())
    except ValueError:
        return problem("it has no certificate, and the gateway dials by TLS", _renewal(stack))
    life = read.not_valid_after_utc - read.not_valid_before_utc
    return expiry(
        read.not_valid_after_utc, now or datetime.datetime.now(datetime.UTC), _renewal(stack), life / 4
    )


def _renewal(stack: Stack) -> str:
    return f"`pulumi up --stack {stack.name}` renews it"
