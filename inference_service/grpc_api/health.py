"""gRPC's standard health service: reports `engine.readiness`."""

import asyncio
from collections.abc import AsyncIterator

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from inference_service.engine import Engine

_Response = health_pb2.HealthCheckResponse

#: Seconds between two checks of the readiness for a `Watch` call.
_WATCH_EVERY = 2.0


class Health(health_pb2_grpc.HealthServicer):
    """Health of the whole server ("") and of the AI service: whether the runtime and every model can answer.

    Needs no API key, like /health.
    """

    def __init__(self, engine: Engine, service: str) -> None:
        self._engine = engine
        self._services = frozenset({"", service})
        self._drain = asyncio.Event()
        engine.when_draining(self._drain.set)

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """The status now."""
        status = await self._status(request.service)
        if status == _Response.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no service {request.service[:100]!r}")
        return _Response(status=status)

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The status now and whenever it changes, until the node drains."""
        last = None
        while True:
            status = await self._status(request.service)
            if status != last:
                last = status
                yield _Response(status=status)
            if self._engine.draining:
                return
            try:
                async with asyncio.timeout(_WATCH_EVERY):
                    await self._drain.wait()
            except TimeoutError:
                continue

    async def _status(self, service: str) -> int:
        if service not in self._services:
            return int(_Response.SERVICE_UNKNOWN)
        ready = (await self._engine.readiness()).ready
        return int(_Response.SERVING if ready else _Response.NOT_SERVING)
