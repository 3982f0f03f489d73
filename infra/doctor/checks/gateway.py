"""The gateway: its entrances, its configuration, its certificate, and the nodes behind it."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import difflib
import re
import shlex
import ssl
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import SecretStr

from infra import names
from infra.connection import typed
from infra.doctor.advice import advice
from infra.doctor.checks.node import NodeChecks, transcribe
from infra.doctor.findings import Outcome, Status, ok, problem, warning, worst
from infra.doctor.reach import NoAnswer, Reach, Unreachable, dial_from_here
from infra.doctor.runner import Check
from infra.doctor.web import Site, unverified
from infra.embedded.declarations import GatewayDeclaration
from infra.embedded.gateway import render_gateway
from infra.embedded.layout import Layout
from infra.gateway.entrance import upstreams
from infra.gateway.plan import ContainerPlan, ExistingPlan, gateway_plan
from infra.gateway.render import UpstreamServer
from infra.stack import Stack

#: How long nginx avoids a node that failed (`fail_timeout` of its upstreams).
_AVOIDED_SECONDS = 30
_HEALTH_TRIES = 3
_LOG_BYTES = 256 * 1024
_NGINX_TIME = "%Y/%m/%d %H:%M:%S"
#: The host's own time, then the end of the error log that nginx says it writes.
_EXISTING_LOG = """
date '+%Y/%m/%d %H:%M:%S'
log=$({nginx} -T 2>/dev/null | sed -n 's/^ *error_log  *\\([^ ;]*\\).*/\\1/p' | head -n 1)
tail -c 262144 "${{log:-/var/log/nginx/error.log}}"
"""
_EXPIRY_WARNING_DAYS = 21


class Place(Protocol):
    """Where the gateway's nginx is."""

    @property
    def reach(self) -> Reach | None:
        """How its host is reached; None for a process here."""

    #: The command that puts its configuration right.
    repair: str
    #: The command that has it read its configuration and its certificate again.
    reload: str
    log: str

    async def configuration(self) -> tuple[str, str]:
        """The rendered file as it is there, and as the stack declares it. Raises NoAnswer."""

    async def recent_log(self) -> str:
        """What nginx said in the last half minute. Raises NoAnswer where it cannot be read."""


class RemotePlace:
    """An nginx in a container, or one that was there before, on a host."""

    def __init__(self, stack: Stack, reach: Reach) -> None:
        self.stack = stack
        self.reach = reach
        self.repair = f"`pulumi up --refresh --stack {stack.name}`"
        self._container = names.gateway_container(stack)
        self.log = typed(stack.gateway.host, stack.ssh, f"docker logs --tail 50 {self._container}")
        reload = f"docker exec {self._container} nginx -c {names.mounted_nginx_conf()} -s reload"
        if stack.gateway.mode == "existing":
            self.log = "look at that nginx's error log"
            reload = f"{stack.gateway.nginx} -s reload"
        self.reload = typed(stack.gateway.host, stack.ssh, reload)

    async def configuration(self) -> tuple[str, str]:
        """The file in use on the host; of the whole configuration only nginx.conf, the keys are not read."""
        stack = self.stack
        if "apiKeys" in stack.encrypted:
            stack = stack.model_copy(update={"api_keys": [SecretStr("not-known-here")]})
        plan = gateway_plan(stack)
        assert isinstance(plan, ContainerPlan | ExistingPlan)
        current = f"{plan.folder}/{names.CURRENT}/{names.NGINX_CONF}"
        file = plan.file if isinstance(plan, ExistingPlan) else current
        done = await self.reach.run(f"cat {shlex.quote(file)}")
        if done.status != 0:
            raise NoAnswer(done.last_line)
        if isinstance(plan, ExistingPlan):
            return done.out, plan.servers
        # Encrypted keys are not known here, and neither is the name that they give the folder.
        return _without_revision(done.out), _without_revision(plan.files[names.NGINX_CONF])

    async def recent_log(self) -> str:
        """From Docker; of an existing site, the file that its configuration names. Raises NoAnswer."""
        if self.stack.gateway.mode == "existing":
            done = await self.reach.run(_EXISTING_LOG.format(nginx=self.stack.gateway.nginx))
            if done.status != 0:
                raise NoAnswer(f"nginx's error log cannot be read: {done.last_line}")
            now, _, log = done.out.partition("\n")
            return recent(log, datetime.datetime.strptime(now, _NGINX_TIME))
        container = shlex.quote(self._container)
        done = await self.reach.run(f"docker logs --since {_AVOIDED_SECONDS}s {container} 2>&1 >/dev/null")
        return done.out


def _without_revision(configuration: str) -> str:
    inside = names.CONFIGURATIONS_MOUNT
    return re.sub(rf"{inside}/[0-9a-f]+/", f"{inside}/revision/", configuration)


class EmbeddedPlace:
    """The nginx of the embedded stack."""

    reach = None

    def __init__(self, declared: GatewayDeclaration, layout: Layout) -> None:
        self.repair = layout.make("up")
        self.reload = f"kill -HUP $(cat {layout.gateway}/nginx.pid)"
        self.declared = declared
        self.layout = layout
        self.log = f"tail -n 50 {layout.log('gateway')}"

    async def configuration(self) -> tuple[str, str]:
        """The file that the process reads."""
        try:
            there = (self.layout.gateway / names.NGINX_CONF).read_text()
        except OSError as error:
            raise NoAnswer(f"{error.filename}: {error.strerror}") from None
        return there, render_gateway(self.layout, self.declared)[0]

    async def recent_log(self) -> str:
        """The end of the process's log."""
        try:
            with self.layout.log("gateway").open("rb") as log:
                log.seek(max(0, log.seek(0, 2) - _LOG_BYTES))
                text = log.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return recent(text, datetime.datetime.now())


class GatewayChecks:
    """The questions to the gateway."""

    def __init__(self, stack: Stack, place: Place, nodes: Sequence[NodeChecks], api_key: str | None) -> None:
        self.stack = stack
        self.place = place
        self.nodes = nodes
        self._given_key = api_key
        gateway = stack.gateway
        self.site = Site(gateway.public_host, gateway.http, tls=gateway.tls is not None)

    async def http(self) -> Outcome:
        """Whether the HTTP entrance answers from here."""
        # The whole nginx answers for itself; an existing site has its own pages.
        path = "/api/v1/ai/health" if self.stack.gateway.mode == "existing" else "/health"
        begin = time.monotonic()
        try:
            answer = await self.site.get(path)
        except (Unreachable, NoAnswer) as error:
            return problem(
                f"the gateway at {self.site.url} cannot be reached: {error}",
                f"see that nginx runs, and that no firewall stops the port; {self.place.log}",
            )
        if answer.status != 200:
            return problem(f"{self.site.url}{path}: {answer.reason}", advice(answer.reason, self.place.log))
        return ok(f"{self.site.url} answers in {1000 * (time.monotonic() - begin):.0f} ms")

    async def grpc(self, unhealthy: Sequence[str]) -> Outcome:
        """Whether the gRPC entrance passes a health check on to a node, maybe an `unhealthy` one."""
        gateway = self.stack.gateway
        address = f"{gateway.public_host}:{gateway.grpc}"
        options: list[tuple[str, Any]] = [("grpc.enable_http_proxy", 0)]
        if gateway.tls is None:
            channel = grpc.aio.insecure_channel(address, options=options)
        else:
            try:
                pem = await _certificate(gateway.public_host, gateway.grpc)
            except Unreachable as error:
                return problem(f"the gateway at {address} cannot be reached: {error}", self.place.log)
            credentials = grpc.ssl_channel_credentials(root_certificates=pem.encode())
            # Whether the certificate is for this name is the question of another check.
            options += [
                ("grpc.ssl_target_name_override", name.replace("*", "any"))
                for name in certificate_names(pem)[:1]
            ]
            channel = grpc.aio.secure_channel(address, credentials, options=options)
        async with channel:
            stub = health_pb2_grpc.HealthStub(channel)
            try:
                for _ in range(_HEALTH_TRIES):
                    answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=2)
                    if answer.status == health_pb2.HealthCheckResponse.SERVING:
                        break
                    await asyncio.sleep(1)  # a node that is busy for a moment is no fault
            except grpc.aio.AioRpcError as error:
                return problem(
                    f"gRPC at {address}: {error.code().name}: {error.details()}",
                    advice(
                        error.details() or "",
                        f"see that the nodes' gRPC ports can be reached; {self.place.log}",
                    ),
                )
        name = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        if name != "SERVING" and unhealthy:
            return ok(f"gRPC at {address} passes on that one of {', '.join(unhealthy)} is {name}")
        if name != "SERVING":
            return problem(f"gRPC at {address} says {name}", "see the nodes' logs")
        return ok(f"gRPC at {address} is SERVING")

    async def configuration(self) -> Outcome:
        """Whether the nodes and everything else in nginx's file are as declared."""
        try:
            there, declared = await self.place.configuration()
        except NoAnswer as error:
            return problem(str(error), self.place.repair)
        if there == declared:
            return ok(f"as declared; upstreams: {', '.join(_servers(there))}")
        mine, theirs = _servers(declared), _servers(there)
        said = [
            f"stale upstream: it sends to {server}, which the stack does not have"
            for server in theirs
            if server not in mine
        ]
        said += [f"stale upstream: it lacks {server}" for server in mine if server not in theirs]
        if not said:
            changed = [
                line
                for line in difflib.unified_diff(declared.splitlines(), there.splitlines(), lineterm="", n=0)
                if line[:1] in "+-" and line[:3] not in ("+++", "---")
            ]
            return warning(
                f"nginx's configuration is not the declared one: {' | '.join(changed[:4])}", self.place.repair
            )
        return worst([problem(line, self.place.repair) for line in said], "")

    async def avoided(self) -> Outcome:
        """The nodes that nginx sends nothing to for now, by its own log."""
        try:
            log = await self.place.recent_log()
        except NoAnswer as error:
            return ok(f"not known: {error}")
        by_address = {server.http_address: server.name for server in upstreams(self.stack)}
        by_address |= {server.grpc_address: server.name for server in upstreams(self.stack)}
        down: dict[str, str] = {}
        for line in log.splitlines():
            if "temporarily disabled" in line and (match := re.search(r'upstream: "\w+://([^/"]+)', line)):
                down[match[1]] = line
        if down:
            nodes = ", ".join(
                f"{by_address.get(address, 'an unknown node')} ({address})" for address in sorted(down)
            )
            return warning(
                f"nginx considers down for {_AVOIDED_SECONDS} s: {nodes} "
                "(“upstream server temporarily disabled”)",
                f"see those nodes' findings; nginx tries them again by itself; at once: {self.place.reload}",
            )
        return ok(f"nginx avoided no node in the last {_AVOIDED_SECONDS} s")

    async def upstream(self, server: UpstreamServer, earlier: Sequence[Check]) -> Outcome:
        """Whether the gateway's host gets through to a node at the address that nginx dials."""
        site = Site(_dialled(server.host), server.http_port, self.place.reach)
        try:
            answer = await site.get("/health")
        except (Unreachable, NoAnswer) as error:
            said = f"from the gateway's host, node {server.name} at {server.http_address}: {error}"
        else:
            if answer.status == 200:
                return ok(
                    f"{server.http_address} answers the gateway's host"
                    + (" (drained)" if server.drained else "")
                )
            said = f"from the gateway's host, node {server.name} at {server.http_address}: {answer.reason}"
        causes = [check.name for check in earlier if check.finding and check.finding.status is Status.PROBLEM]
        if causes:
            return Outcome(Status.SKIPPED, f"because of: {', '.join(causes)}")
        return problem(
            said,
            f"check publicHost, publicHttpPort of {server.name}, and the firewall between the gateway and it",
        )

    async def certificate(self) -> Outcome:
        """Whether the certificate is good for the gateway's name, and for how long."""
        gateway = self.stack.gateway
        assert gateway.tls is not None
        try:
            pem = await _certificate(gateway.public_host, gateway.http)
        except Unreachable as error:
            return problem(str(error), self.place.log)
        remedy = f"renew {gateway.tls.certificate} on the gateway's host, then {self.place.reload}"
        outcome = expiry(_expires(pem), datetime.datetime.now(datetime.UTC), remedy)
        if outcome.status is Status.OK and not covers(certificate_names(pem), gateway.public_host):
            return warning(
                f"the certificate is for {', '.join(certificate_names(pem)) or 'no name'}, "
                f"not for {gateway.public_host}",
                "set gateway.publicHost to a name that it is for, or get one for that name",
            )
        with contextlib.suppress(Unreachable):
            refused = await _refused(gateway.public_host, gateway.http)
            if refused and outcome.status is Status.OK:
                # A site's own authority is no fault, but clients have to be told of it.
                return ok(f"{outcome.seen}; this computer does not trust it by itself: {refused}")
        return outcome

    async def inference(self) -> Outcome:
        """A real recording through the gateway."""
        keys = [key for node in self.nodes if (key := node.key)]
        return await transcribe(self.site, self._given_key or (keys[0] if keys else None))


def _dialled(host: str) -> str:
    """A container's name for its host is the loopback of the host."""
    return "127.0.0.1" if host == "host.docker.internal" else host


def _servers(configuration: str) -> list[str]:
    """The nodes of the upstream that requests go to, `name (address)`, with the drained ones marked."""
    block = re.search(r"upstream ai_inference_service \{(.*?)\n\s*\}", configuration, re.DOTALL)
    text = block[1] if block else configuration
    found = re.findall(r"^\s*server\s+(\S+?)((?:\s+[^;#]*)?);(?:\s*#\s*(\S+))?", text, re.MULTILINE)
    return [
        f"{name or 'an unnamed node'} ({address}{', down' if ' down' in options else ''})"
        for address, options, name in found
    ]


def recent(log: str, now: datetime.datetime) -> str:
    """The lines of an nginx error log that are not older than nginx's memory of a failure."""
    since = (now - datetime.timedelta(seconds=_AVOIDED_SECONDS)).strftime(_NGINX_TIME)
    return "\n".join(line for line in log.splitlines() if line[:19] >= since)


async def _certificate(address: str, port: int) -> str:
    """The certificate that is served, as PEM. Raises Unreachable."""
    async with dial_from_here(address, port, ssl=unverified()) as stream:
        found: ssl.SSLObject = stream.writer.get_extra_info("ssl_object")
        der = found.getpeercert(binary_form=True)
    assert der is not None
    return ssl.DER_cert_to_PEM_cert(der)


def expiry(expires: datetime.datetime, now: datetime.datetime, remedy: str) -> Outcome:
    """Whether a certificate is still good, and will be for a while."""
    left = expires - now
    if left.total_seconds() <= 0:
        return problem(f"the certificate expired on {expires:%Y-%m-%d}", remedy)
    if left.days < _EXPIRY_WARNING_DAYS:
        return warning(f"the certificate expires on {expires:%Y-%m-%d}, in {left.days} days", remedy)
    return ok(f"good until {expires:%Y-%m-%d}")


def certificate_names(pem: str) -> list[str]:
    """The names and addresses that a certificate is for."""
    decoded = _decoded(pem)
    alternatives = [
        value for kind, value in decoded.get("subjectAltName", ()) if kind in ("DNS", "IP Address")
    ]
    subject = dict(pair for part in decoded.get("subject", ()) for pair in part)
    return alternatives or [value for key, value in subject.items() if key == "commonName"]


def covers(allowed: Sequence[str], host: str) -> bool:
    """Whether a certificate for these names is one for the host."""
    wanted = {host.lower(), f"*.{host.lower().partition('.')[2]}"}
    return any(name.lower() in wanted for name in allowed)


def _expires(pem: str) -> datetime.datetime:
    seconds = ssl.cert_time_to_seconds(_decoded(pem)["notAfter"])
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def _decoded(pem: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "certificate.pem"
        path.write_text(pem)
        # Python's own reader of certificate files; the public ones read only what they also verify.
        decoded: dict[str, Any] = ssl._ssl._test_decode_cert(str(path))  # type: ignore[attr-defined]
    return decoded


async def _refused(address: str, port: int) -> str | None:
    """Why a client that knows only the system's authorities refuses the certificate, if it does."""
    try:
        async with asyncio.timeout(5):
            _, writer = await asyncio.open_connection(address, port, ssl=ssl.create_default_context())
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except (OSError, TimeoutError) as error:
        raise Unreachable(str(error)) from None
    writer.close()
    return None
