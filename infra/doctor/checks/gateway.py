"""The gateway: its HTTP and gRPC entrances, the nodes behind it, and a recording sent through it."""

import asyncio
import re
import time
from collections.abc import Sequence
from typing import Any

import grpc
from cryptography.hazmat.primitives.serialization import Encoding
from grpc_health.v1 import health_pb2, health_pb2_grpc

from infra.doctor.advice import advice
from infra.doctor.answers import expected, failing
from infra.doctor.checks import certificate
from infra.doctor.checks.service import BASE, transcribe
from infra.doctor.findings import Failed, Outcome, Status, ok, problem, skipped, warning
from infra.doctor.host_access import NoAnswer, Unreachable
from infra.doctor.runner import Check
from infra.doctor.sites.gateway import AVOIDED_SECONDS, GatewaySite
from infra.doctor.web import HttpServer
from infra.gateway.entrance import upstreams
from infra.gateway.render import UpstreamServer

#: nginx avoids a node after 3 failures (`max_fails`), so the fourth call reaches another one.
_HEALTH_TRIES = 4
#: Seconds for one answer. On an open connection to a node that has just been cut off, the gateway's system
#: waits 6 s for an acknowledgement (`tcp_retries2`), and nginx cannot repeat the call elsewhere.
_HEALTH_SECONDS = 8.0
_PAUSE_SECONDS = 1.0
#: Seconds for the whole check, with the pauses between the calls.
GRPC_HEALTH_SECONDS = _HEALTH_TRIES * (_HEALTH_SECONDS + _PAUSE_SECONDS)


async def http(gateway: GatewaySite) -> Outcome:
    """Whether the HTTP entrance answers this computer."""
    # The stack's own nginx has a health route; an existing one passes only the API on.
    path = f"{BASE}/health" if gateway.stack.gateway.mode == "existing" else "/health"
    begin = time.monotonic()
    await expected(
        gateway.server.get(path),
        f"check that nginx runs, and that no firewall blocks the port; {gateway.log}",
        unreachable=f"the gateway at {gateway.server.url} cannot be reached: {{error}}",
        refused=f"{gateway.server.url}{path}: {{error}}",
    )
    return ok(f"{gateway.server.url} answers in {1000 * (time.monotonic() - begin):.0f} ms")


async def grpc_health(gateway: GatewaySite) -> Outcome:
    """Whether the gRPC entrance passes a health check on to a node, which may be an unhealthy one."""
    unhealthy = _unhealthy_nodes(gateway)
    address = gateway.grpc_address
    async with await _channel(gateway, address) as channel:
        try:
            answer = await _asked_health(health_pb2_grpc.HealthStub(channel))
        except grpc.aio.AioRpcError as error:
            details = error.details() or ""
            return problem(
                f"gRPC at {address}: {error.code().name}: {details}",
                advice(details, f"check that the nodes' gRPC ports can be reached; {gateway.log}"),
            )
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    if status != "SERVING" and unhealthy:
        return ok(f"gRPC at {address} passes on that one of {', '.join(unhealthy)} is {status}")
    if status != "SERVING":
        return problem(f"gRPC at {address} reports {status}", "look at the nodes' logs")
    return ok(f"gRPC at {address} is SERVING")


async def _asked_health(stub: health_pb2_grpc.HealthStub) -> health_pb2.HealthCheckResponse:
    """The first answer that is SERVING, else the last one. Raises the last call's AioRpcError."""
    for attempt in range(1, _HEALTH_TRIES + 1):
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=_HEALTH_SECONDS)
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                break
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE or attempt == _HEALTH_TRIES:
                raise
        if attempt < _HEALTH_TRIES:
            await asyncio.sleep(_PAUSE_SECONDS)  # a node that is busy for a moment is healthy
    return answer


async def _channel(gateway: GatewaySite, address: str) -> grpc.aio.Channel:
    options: list[tuple[str, Any]] = [("grpc.enable_http_proxy", 0)]
    if gateway.stack.gateway.tls is None:
        return grpc.aio.insecure_channel(address, options=options)
    with failing(gateway.log, f"the gateway at {address} cannot be reached: {{error}}"):
        served = await certificate.fetch(gateway.stack.gateway.public_host, gateway.stack.gateway.grpc)
    credentials = grpc.ssl_channel_credentials(root_certificates=served.public_bytes(Encoding.PEM))
    # Another check verifies the certificate's name.
    options += [
        ("grpc.ssl_target_name_override", name.replace("*", "any")) for name in certificate.names(served)[:1]
    ]
    return grpc.aio.secure_channel(address, credentials, options=options)


async def avoided(gateway: GatewaySite) -> Outcome:
    """The nodes that nginx sends no requests to for now, as its log says."""
    try:
        log = await gateway.recent_log()
    except NoAnswer as error:
        return ok(f"not known: {error}")
    nodes: dict[str, str] = {}
    for server in upstreams(gateway.stack):
        nodes |= {server.http_address: server.name, server.grpc_address: server.name}
    addresses = {
        match[1]
        for line in log.splitlines()
        if "temporarily disabled" in line and (match := re.search(r'upstream: "\w+://([^/"]+)', line))
    }
    if addresses:
        shown = ", ".join(f"{nodes.get(each, 'an unknown node')} ({each})" for each in sorted(addresses))
        return warning(
            f"in the last {AVOIDED_SECONDS} s nginx avoided {shown} (“upstream server temporarily disabled”)",
            "see the findings of those nodes; nginx tries them again by itself",
        )
    return ok(f"nginx avoided no node in the last {AVOIDED_SECONDS} s")


async def upstream(gateway: GatewaySite, server: UpstreamServer, earlier: Sequence[Check]) -> Outcome:
    """Whether the gateway's host reaches a node at the address that nginx uses.

    `earlier` are the checks of the node's host and service, which explain a failure if they failed.
    """
    # The name by which a container reaches its host is the host's loopback address.
    address = "127.0.0.1" if server.host == "host.docker.internal" else server.host
    try:
        answer = await HttpServer(address, server.http_port, gateway.access).get("/health")
        reason = None if answer.status == 200 else answer.reason
    except Unreachable as error:
        reason = str(error)
    except NoAnswer as error:
        # A node with TLS takes the connection and closes it: the gateway's host has no client for its TLS.
        reason = None if gateway.stack.node_tls else str(error)
    if reason is None:
        return ok(
            f"{server.http_address} answers the gateway's host" + (" (drained)" if server.drained else "")
        )
    causes = [check.name for check in earlier if check.finding and check.finding.status is Status.PROBLEM]
    if causes:
        return skipped(causes)
    port = "publicHttpTlsPort" if gateway.stack.node_tls else "publicHttpPort"
    return problem(
        f"from the gateway's host, node {server.name} at {server.http_address}: {reason}",
        f"check publicHost and {port} of {server.name}, and the firewall between it and the gateway",
    )


async def inference(gateway: GatewaySite) -> Outcome:
    """A recording of speech, transcribed through the gateway."""
    _unhealthy_nodes(gateway)
    if not any("asr" in node.tasks for node in gateway.stack.nodes):
        return warning("no node serves asr", "give it to a node: nodes[].tasks; then `pulumi up`")
    return await transcribe(gateway.server, gateway.key)


def _unhealthy_nodes(gateway: GatewaySite) -> list[str]:
    """The nodes known to be unhealthy. Raises Failed where all are: then the gateway is not to blame."""
    unhealthy = [
        check.where[0]
        for check in gateway.serving
        if check.finding is not None and check.finding.status is not Status.OK
    ]
    if unhealthy and len(unhealthy) == len(gateway.serving):
        raise Failed(skipped(f"{name} health" for name in unhealthy))
    return unhealthy
