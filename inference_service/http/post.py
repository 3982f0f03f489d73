"""One ASGI handler around every POST route: method, body, envelope, and the client that leaves.

The routes that carry audio are measured against direct calls to Triton. As ASGI handlers of Litestar they
skip its building of a request, of keyword arguments and of a response, which is half of what a request costs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

import msgspec
from litestar.handlers import ASGIRouteHandler, asgi
from litestar.types import HTTPScope, Receive, Scope, Send

from inference_service.engine import Engine
from inference_service.errors import MethodNotAllowed, UnsupportedMedia
from inference_service.http.body import ClientGone, header, read_body, unless_client_leaves
from inference_service.http.envelope import request_id_of, send_success
from inference_service.http.upload import media_type
from inference_service.runtimes.base import Call


class Post(msgspec.Struct):
    """A POST request that was read to its end."""

    request_id: str
    kind: str  # media type, in lower case
    options: dict[str, str]  # the media type's parameters
    query: bytes
    body: bytes

    def call(self, meeting_id: str = "") -> Call:
        """What travels with this request's inferences."""
        return Call(request_id=self.request_id, meeting_id=meeting_id)


Answer = Callable[[Post], Awaitable[Any]]


def _check_encoding(encoding: bytes | None) -> None:
    if encoding is not None and encoding.lower() not in (b"", b"identity"):
        name = encoding.decode("latin-1")[:40]
        raise UnsupportedMedia(f"Content-Encoding {name} is not read here; send the body as it is")


def post_route(path: str, engine: Engine, answer: Answer) -> ASGIRouteHandler:
    """The route at `path` that answers a POST with `answer`'s data in the envelope."""
    limits = engine.settings.ai.request

    @asgi(path, copy_scope=False)
    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        if cast(HTTPScope, scope)["method"] != "POST":
            raise MethodNotAllowed(f"{path} takes POST", allowed="POST")
        try:
            body = await read_body(
                scope, receive, max_bytes=limits.max_body_bytes, seconds=limits.upload_timeout
            )
            _check_encoding(header(scope, b"content-encoding"))
            kind, options = media_type(header(scope, b"content-type"))
            post = Post(request_id_of(scope), kind, options, scope["query_string"], body)
            data: Any = await unless_client_leaves(receive, answer(post))
        except ClientGone:
            return
        await send_success(scope, send, data)

    return handle
