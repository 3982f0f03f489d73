"""What all calls of the AI service share: request id, metrics, and errors as status codes."""

import re
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import NoReturn

import grpc

from inference_service import metrics, tracing
from inference_service.errors import BadRequest, Busy, ServiceError
from inference_service.request_fields import language, request_id_or_new

_REQUEST_ID = "x-request-id"


@dataclass(slots=True)
class Caller:
    """A call's metadata besides the API key: `x-request-id`, `language`, `flush-interval-ms`."""

    context: grpc.aio.ServicerContext
    request_id: str
    language: str | None
    flush_interval_ms: int | None
    _is_answered: bool = False

    async def begin_answer(self) -> None:
        """Send the initial metadata, unless it was sent: with it a node has taken the call.

        A gateway can pass on a call, or answer UNAVAILABLE for a node that dies, only before.
        """
        if not self._is_answered:
            self._is_answered = True
            await self.context.send_initial_metadata(((_REQUEST_ID, self.request_id),))


class Answering:
    """Wraps calls: a ServiceError that is raised inside becomes the call's status."""

    def call(
        self, context: grpc.aio.ServicerContext, route: str
    ) -> AbstractAsyncContextManager[Caller, None]:
        """Count and time the call.

        The request id goes back as initial metadata of a response, as trailing metadata of an error.
        """
        # Never suppresses an exception: `abort` raises.
        return self._call(context, route)  # type: ignore[return-value]

    @asynccontextmanager
    async def _call(self, context: grpc.aio.ServicerContext, route: str) -> AsyncIterator[Caller]:
        metadata = texts(context.invocation_metadata())
        request_id = request_id_or_new(metadata.get(_REQUEST_ID))
        with (
            metrics.request("grpc", route) as answer,
            tracing.request("grpc", answer, request_id, metadata.get),
        ):
            answer.status = grpc.StatusCode.CANCELLED.name
            try:
                caller = Caller(
                    context, request_id, language(metadata.get("language")), _flush_interval(metadata)
                )
                yield caller
                await caller.begin_answer()
                answer.status = grpc.StatusCode.OK.name
            except ServiceError as error:
                answer.status = error.grpc_code
                await abort(context, error, request_id)


async def abort(context: grpc.aio.ServicerContext, error: ServiceError, request_id: str) -> NoReturn:
    """End the call with the error's status, and the request id as trailing metadata."""
    trailing = [(_REQUEST_ID, request_id)]
    if isinstance(error, Busy):
        # gRPC's own retry policies read this: milliseconds until the next attempt.
        trailing.append(("grpc-retry-pushback-ms", str(1000 * error.retry_after)))
    await context.abort(grpc.StatusCode[error.grpc_code], str(error), tuple(trailing))
    raise AssertionError("abort() raises")


def texts(metadata: Iterable[tuple[str, str | bytes]] | None) -> dict[str, str]:
    """The text values of a call's metadata."""
    return {key: value for key, value in metadata or () if isinstance(value, str)}


def _flush_interval(metadata: dict[str, str]) -> int | None:
    text = metadata.get("flush-interval-ms")
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise BadRequest(f"flush-interval-ms: expected a whole number of milliseconds, got {text[:40]!r}")
    return int(text)
