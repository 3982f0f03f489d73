"""The WebSocket /v1/realtime, as OpenAI's clients open it."""

import asyncio
from typing import Any

import msgspec
from litestar import WebSocket, websocket
from litestar.handlers import WebsocketRouteHandler

from inference_service.engine import Engine
from inference_service.errors import ServiceError
from inference_service.http.body import header
from inference_service.http.envelope import request_id_of
from inference_service.http.openai.errors import FieldRefused
from inference_service.http.openai.names import check_model, is_transcriber
from inference_service.http.openai.realtime.config import SessionConfig
from inference_service.http.openai.realtime.events import failure, new_id
from inference_service.http.openai.realtime.session import RealtimeSession
from inference_service.http.sockets import close, receive, send
from inference_service.runtimes.base import Call
from inference_service.streaming import ClientGone, Streaming
from inference_service.tasks import Task

PATH = "/v1/realtime"

#: The subprotocol that browsers offer beside those that carry the key and the wish for the beta.
_SUBPROTOCOL = "realtime"
_BETA_SUBPROTOCOL = "openai-beta.realtime-v1"
_BETA_HEADER = b"realtime=v1"

#: OpenAI's models that answer in speech begin so. A transcription session may name one and does not use it.
_ANSWERING = ("gpt-realtime", "gpt-4o-realtime", "gpt-4o-mini-realtime")


def routes(engine: Engine) -> list[WebsocketRouteHandler]:
    """The WebSocket over `engine`."""
    streaming = Streaming(engine)
    own = engine.settings.ai.models.asr.model_name

    @websocket(PATH)
    async def realtime(socket: WebSocket[Any, Any, Any]) -> None:
        offered = socket.scope["subprotocols"]
        await socket.accept(subprotocols=_SUBPROTOCOL if _SUBPROTOCOL in offered else None)
        beta = _BETA_SUBPROTOCOL in offered or _BETA_HEADER in (header(socket.scope, b"openai-beta") or b"")
        idle_timeout = engine.settings.ai.streaming.idle_timeout
        writing = asyncio.Lock()  # the events of an item come from a task of its own

        async def tell(event: dict[str, Any]) -> None:
            text = msgspec.json.encode(event).decode("utf-8")
            try:
                async with asyncio.timeout(idle_timeout), writing:
                    await send(socket, text)
            except TimeoutError:
                raise ClientGone from None

        try:
            config = SessionConfig(_model(socket, own))
            engine.check_offered(Task.ASR)
            call = Call(request_id_of(socket.scope))
            session = RealtimeSession(streaming, call, own, config, tell, beta=beta)
            with streaming.admit(session):
                await session.serve(lambda: receive(socket), idle_timeout)
        except ServiceError as error:
            try:
                await tell({"type": "error", "event_id": new_id("event"), "error": failure(error)})
                await close(socket, error)
            except ClientGone:
                pass
        except ClientGone:
            pass

    return [realtime]


def _model(socket: WebSocket[Any, Any, Any], own: str) -> str:
    """The model that the query names: the node's own where it names none.

    Raises FieldRefused, or ModelNotFound for a model that does not transcribe.
    """
    intent = socket.query_params.get("intent")
    if intent not in (None, "", "transcription"):
        raise FieldRefused(
            "intent", f"{intent[:40]!r} is not available: this node has transcription sessions"
        )
    name = socket.query_params.get("model") or own
    if name.startswith(_ANSWERING) and not is_transcriber(name):
        if intent != "transcription":
            raise FieldRefused(
                "model",
                f"{name[:60]!r} answers in speech, which this node cannot do; for transcripts open "
                f"{PATH}?intent=transcription",
                "model_not_found",
            )
        return own
    check_model(name, own)
    return name
