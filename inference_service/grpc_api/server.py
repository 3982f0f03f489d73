"""The gRPC server of one worker. All workers listen on the same address (SO_REUSEPORT)."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from inference_service import tls
from inference_service.engine import Engine
from inference_service.grpc_api.gate import Gate
from inference_service.grpc_api.generated import ai_service_pb2, ai_service_pb2_grpc
from inference_service.grpc_api.health import Health
from inference_service.grpc_api.service import AIService
from inference_service.settings import Settings

_log = logging.getLogger(__name__)

SERVICE = ai_service_pb2.DESCRIPTOR.services_by_name["AIService"].full_name
_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

#: Bytes for a message's fields besides its audio.
_FIELDS_BYTES = 64 * 1024

#: Calls at once besides streams and inferences: health, reflection, stored results, and those to refuse.
_OTHER_CALLS = 256

#: Seconds of silence after which the server pings a client, and seconds for the answer. A client that
#: vanished without closing its connection loses its streams after their sum.
_PING_AFTER, _PING_TIMEOUT = 60, 20

#: Least seconds between two pings of a client, with or without an open call.
_CLIENT_PINGS_EVERY = 10


@asynccontextmanager
async def serve(engine: Engine) -> AsyncIterator[None]:
    """Serve the gRPC API inside the context. When the engine drains, running calls have its grace time.

    Raises OSError if the server cannot listen on its address.
    """
    limits = engine.settings.server
    server = grpc.aio.server(
        interceptors=[Gate(engine)],
        options=_options(engine.settings),
        maximum_concurrent_rpcs=limits.max_streams + limits.max_concurrency + limits.max_queue + _OTHER_CALLS,
    )
    service = AIService(engine)
    health = Health(engine, SERVICE)
    ai_service_pb2_grpc.add_AIServiceServicer_to_server(service, server)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    reflection.enable_server_reflection((SERVICE, _HEALTH, reflection.SERVICE_NAME), server)
    address = _listen(server, engine.settings)
    await server.start()
    _log.info("gRPC is served", extra={"address": address})

    stopping: asyncio.Task[None] | None = None

    def stop() -> None:
        nonlocal stopping
        if stopping is None:
            # Refuses new calls at once; clients are told (GOAWAY) to open a new connection.
            stopping = asyncio.create_task(server.stop(engine.grace_left()))

    engine.when_draining(stop)
    try:
        yield
    finally:
        stop()
        assert stopping is not None
        await stopping


def _listen(server: grpc.aio.Server, settings: Settings) -> str:
    host = settings.server.host
    own, mutual = settings.server.grpc_port, settings.server.tls.grpc_port
    address = _host_and_port(host, own)
    with _busy("grpc_port", address):
        server.add_insecure_port(address)
    if (credentials := tls.grpc_credentials(settings.server.tls)) is not None:
        with_tls = _host_and_port(host, mutual)
        with _busy("tls.grpc_port", with_tls):
            server.add_secure_port(with_tls, credentials)
    return address


def _host_and_port(host: str, port: int) -> str:
    """As gRPC takes it: an IPv6 address in brackets."""
    return f"{f'[{host}]' if ':' in host else host}:{port}"


@contextmanager
def _busy(key: str, address: str) -> Iterator[None]:
    """gRPC's error for a port that is taken, as a message that names its key."""
    try:
        yield
    except RuntimeError:
        raise OSError(
            f"server.{key}: cannot listen on {address}; stop what uses it, or set another port "
            f"(SERVER__{key.upper().replace('.', '__')})"
        ) from None


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", settings.ai.request.max_body_bytes + _FIELDS_BYTES),
        ("grpc.max_concurrent_streams", settings.server.max_streams),
        # Else the window of a fast connection grows to megabytes, which refused callers fill, too. A message
        # that a handler waits for has a window of its own size.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.keepalive_time_ms", 1000 * _PING_AFTER),
        ("grpc.keepalive_timeout_ms", 1000 * _PING_TIMEOUT),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 1000 * _CLIENT_PINGS_EVERY),
    ]
