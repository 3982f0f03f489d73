"""What a node shows to others than the gateway: its ports, dialled from this computer."""

from infra.doctor.checks import certificate
from infra.doctor.findings import Outcome, ok, problem, warning, worst
from infra.doctor.host_access import NoAnswer, Unreachable, dial_from_here
from infra.doctor.sites.docker_node import DockerNodeSite
from infra.doctor.web import HttpServer
from infra.stack.hosts import bracketed
from infra.stack.tls import is_public

_UNREACHED = "its ports cannot be reached from this computer"


async def exposure(site: DockerNodeSite) -> Outcome:
    """Whether anybody but the gateway is served."""
    stack, node = site.stack, site.node
    keyed = bool(site.known_settings.server.api_keys)
    plain = await _reached(node.public_host, node.public_http_port)
    if not stack.node_tls:
        return without_tls(node.public_host, node.public_http_port, plain, keyed)
    again = f"`pulumi up --stack {stack.name}`"
    outcomes = [await with_tls(node.public_host, node.public_http_tls_port, again)]
    if plain:
        said = f"{bracketed(node.public_host)}:{node.public_http_port} answers without TLS too"
        outcomes.append(warning(said, f"{again} closes the ports that the gateway does not use"))
    return worst(outcomes, outcomes[0].seen)


def without_tls(address: str, port: int, reached: bool, keyed: bool) -> Outcome:
    """The finding of a node that serves without TLS; `keyed` nodes require an API key."""
    if not reached:
        return ok(_UNREACHED)
    if not is_public(address):
        return ok("without TLS, at an address of a private network")
    lacks = "TLS" if keyed else "TLS and without an API key"
    return warning(
        f"{bracketed(address)}:{port} answers this computer without {lacks}",
        "set gpu-inference:tls: {nodes: true} (a gateway in a container), or nodes[].bind to a private one"
        + ("" if keyed else ", and set gpu-inference:apiKeys"),
    )


async def _reached(address: str, port: int) -> bool:
    try:
        async with dial_from_here(address, port):
            return True
    except Unreachable:
        return False


async def with_tls(address: str, port: int, again: str) -> Outcome:
    """Whether the port lets this computer in, which has no certificate."""
    at = f"{bracketed(address)}:{port}"
    if not await _reached(address, port):
        return ok(_UNREACHED)
    try:
        await certificate.fetch(address, port)
    except Unreachable as error:
        return problem(f"{at} answers without TLS: {error}", again)
    try:
        await HttpServer(address, port, tls=True).get("/health")
    except (Unreachable, NoAnswer):
        return ok(f"{at} answers nobody without the gateway's certificate")
    return problem(f"{at} answers a client without a certificate", again)
