"""The outermost ASGI layer: request id, origin, API key, refusals while draining or full, the headers of all
answers, metrics, access log."""

import asyncio
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from typing import cast

from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send, WebSocketScope

from inference_service import hops, logs, metrics, tracing
from inference_service.engine import Engine
from inference_service.errors import Draining, NotFound, ServiceError
from inference_service.http import elsewhere
from inference_service.http.body import header, via_of
from inference_service.http.cors import Cors, Headers
from inference_service.http.envelope import REQUEST_ID, send_error
from inference_service.keys import Keys
from inference_service.model_cards import ModelRole
from inference_service.request_fields import request_id_or_new

#: Routes that need no API key (`status` says why; pages and the API's description hold no secrets).
OPEN_ROUTES = frozenset({"/health", "/metrics", "/api/v1/ai/health"})
OPEN_PREFIXES = ("/demo", "/docs", "/openapi.json", "/api/v1/ai/docs", "/api/v1/ai/openapi.json")


#: Browsers cannot set a WebSocket's headers, only its subprotocols: one with such a prefix carries the key.
_KEY_SUBPROTOCOLS = ("api-key.", "openai-insecure-api-key.")


_NOT_TRACED = nullcontext()


def _text(scope: Scope, name: bytes) -> str | None:
    value = header(scope, name)
    return None if value is None else value.decode("latin-1")


def _key_of_subprotocols(scope: Scope) -> str | None:
    offered = (_text(scope, b"sec-websocket-protocol") or "").split(",")
    for name in map(str.strip, offered):
        for prefix in _KEY_SUBPROTOCOLS:
            if name.startswith(prefix):
                return name.removeprefix(prefix)
    return None


class Front:
    """ASGI middleware around the Litestar application, for every HTTP request and WebSocket.

    Around all of it, and not in its list of middleware, because Litestar runs that only for requests that a
    route matches.
    """

    def __init__(self, app: ASGIApp, engine: Engine) -> None:
        self._app = app
        self._engine = engine
        self._keys = Keys(engine.settings.server.api_keys)
        self._cors = Cors(engine.settings.server.cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            await self._http(cast(HTTPScope, scope), receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(cast(WebSocketScope, scope), receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        request_id = self._identify(scope)
        started = False
        begun = perf_counter()
        # Uvicorn sends no body for the HEAD of its own scope.
        routed: HTTPScope = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope

        async def send_completed(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                answer.status = str(message["status"])
                fields = [*message["headers"], *self._common_headers(scope, request_id)]
                if not any(name == b"cache-control" for name, _ in fields):
                    # What a client said must not stay in a proxy, and an error must not outlive its cause.
                    fields.append((b"cache-control", b"no-store"))
                if self._engine.draining or message["status"] == 408:
                    # The client's next request must reach another node; a slow upload must not go on.
                    fields.append((b"connection", b"close"))
                message["headers"] = fields
            await send(message)

        with (
            metrics.request("http", "unmatched") as answer,
            self._traced("http", scope, request_id, answer),
        ):
            # nginx's status for a client that left before the response.
            answer.status = "499"
            try:
                if (allowed := self._cors.preflight(scope)) is not None:
                    await send_completed({"type": "http.response.start", "status": 204, "headers": allowed})
                    await send_completed({"type": "http.response.body", "body": b"", "more_body": False})
                else:
                    self._admit(scope)
                    with self._engine.budget.request():
                        await self._app(routed, receive, send_completed)
            except ServiceError as error:  # not from Litestar, which handles those of its handlers
                await send_error(scope, send_completed, error)
            except asyncio.CancelledError:
                # Uvicorn cancels the requests that still run at the end of the grace time.
                if not started:
                    await send_error(
                        scope, send_completed, Draining("the node stopped before the request was done")
                    )
            answer.route = str(routed.get("path_template") or "unmatched")
            trace_id = tracing.trace_id()
        logs.access(scope, request_id, answer.status, perf_counter() - begun, trace_id)

    def _common_headers(self, scope: Scope, request_id: str) -> Headers:
        return [(b"x-request-id", request_id.encode("ascii")), *self._cors.headers(scope)]

    def _admit(self, scope: HTTPScope) -> None:
        path = scope["path"]
        hops.check(via_of(scope), self._engine.settings.node_id)
        if path in OPEN_ROUTES or path.startswith(OPEN_PREFIXES):
            return
        self._keys.check(_text(scope, b"x-api-key"), _text(scope, b"authorization"))
        if scope["method"] == "POST":
            elsewhere.check(scope, self._engine.settings.ai.models)
            self._engine.accept()
        elif self._engine.draining:
            raise Draining("the node is stopping")

    async def _websocket(self, scope: WebSocketScope, receive: Receive, send: Send) -> None:
        request_id = self._identify(scope)
        accepted = False

        async def send_completed(message: Message) -> None:
            nonlocal accepted
            if message["type"] == "websocket.accept":
                accepted = True
            elif message["type"] == "websocket.close" and not accepted:
                # Litestar's router: the path has no WebSocket.
                error = NotFound(f"there is no WebSocket {scope['path'][:200]}")
                answer.status = str(error.status)
                await send_error(scope, send_completed, error)
                return
            elif message["type"] == "websocket.http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode("ascii"))]
            await send(message)

        with (
            metrics.request("websocket", "unmatched") as answer,
            self._traced("websocket", scope, request_id, answer),
        ):
            answer.status = "101"
            try:
                self._cors.check_websocket(scope)
                api_key = _text(scope, b"x-api-key") or _key_of_subprotocols(scope)
                self._keys.check(api_key, _text(scope, b"authorization"))
                elsewhere.check(scope, self._engine.settings.ai.models)
                self._engine.accept()
                # A gateway can send the stream to another node only before the handshake.
                for task in elsewhere.tasks(scope):
                    await self._engine.offer.check_loaded(ModelRole.of(task))
            except ServiceError as error:
                # Refused before the handshake, so the client gets an HTTP status.
                answer.status = str(error.status)
                await receive()
                await send_error(scope, send_completed, error)
                return
            await self._app(scope, receive, send_completed)
            answer.route = str(scope.get("path_template") or "unmatched")

    @staticmethod
    def _traced(
        entrance: str, scope: Scope, request_id: str, answer: metrics.Answer
    ) -> AbstractContextManager[object]:
        if scope["type"] == "http" and cast(HTTPScope, scope)["method"] != "POST":
            return _NOT_TRACED  # probes, pages and lists
        return tracing.request(entrance, answer, request_id, lambda name: _text(scope, name.encode("ascii")))

    def _identify(self, scope: Scope) -> str:
        request_id = request_id_or_new(_text(scope, b"x-request-id") or _text(scope, b"request-id"))
        scope[REQUEST_ID] = request_id  # type: ignore[literal-required]
        return request_id
