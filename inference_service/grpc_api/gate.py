"""Decides about calls before their messages are read: the API key, a full or draining node, the byte budget.

gRPC's core reads a message to its end as soon as a handler waits for it, and up to `max_body_bytes` of each
call at once. So refused calls get a handler that reads nothing, and calls of one message are read here.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc

from inference_service import metrics, tracing
from inference_service.budget import Lease
from inference_service.engine import Engine
from inference_service.errors import BadRequest, ServiceError, SlowUpload
from inference_service.grpc_api.caller import abort, texts
from inference_service.keys import Keys
from inference_service.request_fields import request_id_or_new

#: Methods that need no API key, like HTTP's /health. Reflection needs one: its messages may be any length.
_OPEN = "/grpc.health.v1.Health/"

#: Calls whose message may arrive without being counted, for a second each. What takes longer is slow or
#: large, and is counted as the largest message until it is there: its length is not known before.
_ARRIVING, _UNCOUNTED_SECONDS = 32, 1.0

#: How often a message is in memory: as protobuf's own, and as the bytes of its audio.
_COPIES = 2

_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class Gate(grpc.aio.ServerInterceptor):
    """The interceptor of one worker's gRPC server."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._keys = Keys(engine.settings.server.api_keys)
        self._arriving = asyncio.Semaphore(_ARRIVING)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        """Return the handler that gRPC runs for a call: the method's behind the gate, or one that refuses."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler  # no such method: gRPC answers without reading
        method = str(handler_call_details.method)
        is_open = method.startswith(_OPEN)
        metadata = texts(handler_call_details.invocation_metadata)
        try:
            if not is_open:
                self._keys.check(metadata.get("x-api-key"), metadata.get("authorization"))
            if method.endswith(("/ProcessAudioData", "/StreamAudioProcessing")):
                self.engine.accept()
        except ServiceError as error:
            return _refusal(error, method, request_id_or_new(metadata.get("x-request-id")))
        if handler.request_streaming:
            return handler
        reading = _Reading(self, handler, method, is_open)
        wrap, answer = (
            (grpc.stream_stream_rpc_method_handler, reading.stream)
            if handler.response_streaming
            else (grpc.stream_unary_rpc_method_handler, reading.answer)
        )
        return wrap(answer, handler.request_deserializer, handler.response_serializer)

    async def message(self, messages: AsyncIterator[Any], lease: Lease, is_open: bool) -> Any:
        """The call's message, which `lease` holds from then on. Raises Busy, SlowUpload and BadRequest."""
        limits = self.engine.settings.ai.request
        arriving = asyncio.ensure_future(anext(messages, None))
        try:
            async with self._arriving:
                done, _ = await asyncio.wait({arriving}, timeout=_UNCOUNTED_SECONDS)
            if not done:
                if is_open:
                    raise SlowUpload(f"the message did not arrive within {_UNCOUNTED_SECONDS:g} s")
                lease.take(limits.max_body_bytes)
                done, _ = await asyncio.wait({arriving}, timeout=limits.upload_timeout)
                lease.give(limits.max_body_bytes)
            if not done:
                raise SlowUpload(f"the message did not arrive within {limits.upload_timeout:g} s")
        finally:
            arriving.cancel()
        message = await arriving
        if message is None:
            raise BadRequest("the call has no message")
        if not is_open:
            lease.take(_COPIES * message.ByteSize())
        return message


class _Reading:
    """A method that takes one message, behind the reading of that message."""

    def __init__(self, gate: Gate, handler: _Handler, method: str, is_open: bool) -> None:
        self._gate = gate
        self._handler = handler
        self._method = method
        self._is_open = is_open

    async def answer(self, messages: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> Any:
        """The method's answer."""
        tracing.arrived()
        with self._gate.engine.budget.request() as lease:
            message = await self._message(messages, context, lease)
            return await self._handler.unary_unary(message, context)

    async def stream(
        self, messages: AsyncIterator[Any], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[Any]:
        """The method's answers."""
        with self._gate.engine.budget.request() as lease:
            message = await self._message(messages, context, lease)
        async for answer in self._handler.unary_stream(message, context):
            yield answer

    async def _message(
        self, messages: AsyncIterator[Any], context: grpc.aio.ServicerContext, lease: Lease
    ) -> Any:
        try:
            return await self._gate.message(messages, lease, self._is_open)
        except ServiceError as error:
            request_id = request_id_or_new(texts(context.invocation_metadata()).get("x-request-id"))
            await _refuse(context, error, self._method, request_id)


def _refusal(error: ServiceError, method: str, request_id: str) -> _Handler:
    """A handler that reads no message. It takes a stream, because gRPC reads the message of other calls."""

    async def refuse(_: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> None:
        await _refuse(context, error, method, request_id)

    return grpc.stream_stream_rpc_method_handler(refuse)


async def _refuse(
    context: grpc.aio.ServicerContext, error: ServiceError, method: str, request_id: str
) -> None:
    find = texts(context.invocation_metadata()).get
    route = method.rpartition("/")[2]
    with metrics.request("grpc", route) as answer, tracing.request("grpc", answer, request_id, find):
        answer.status = error.grpc_code
        await abort(context, error, request_id)
