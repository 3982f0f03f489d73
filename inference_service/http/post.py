"""POST requests with a body: limits of size and time, content encoding, and the client that leaves."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from litestar import Request, Response, post
from litestar.handlers import HTTPRouteHandler

from inference_service import budget
from inference_service.engine import Engine
from inference_service.http import elsewhere
from inference_service.http.body import header, read_body, unless_client_leaves, via_of
from inference_service.http.compression import coding_of, unpack
from inference_service.http.envelope import request_id_of, success
from inference_service.http.json_body import SMALL
from inference_service.http.upload import media_type
from inference_service.runtimes.base import Call

_T = TypeVar("_T")


class Post(msgspec.Struct):
    """A POST request that was read to its end."""

    request_id: str
    media_type: str  # in lower case, "" without a Content-Type
    options: dict[str, str]  # the media type's parameters
    query: bytes
    body: bytes
    via: str
    by_gateway: bool = False  # a gateway asks other nodes for tasks that this node does not serve

    def call(self, meeting_id: str = "") -> Call:
        """The context of this request's inferences."""
        return Call(request_id=self.request_id, meeting_id=meeting_id, via=self.via)


async def read_post(request: Request[Any, Any, Any], engine: Engine) -> Post:
    """Read the request, and unpack it if it is compressed.

    Raises UnsupportedCoding, what `read_body` raises and what `unpack` raises. Not through Litestar, which
    would read a body of any speed, and whose limit of size has no envelope.
    """
    limits = engine.settings.ai.request
    scope = request.scope
    coding = coding_of(header(scope, b"content-encoding"))
    body = await read_body(
        scope, request.receive, max_bytes=limits.max_body_bytes, seconds=limits.upload_timeout
    )
    if coding is not None:
        lease = budget.current()
        packed, body = (
            body,
            await asyncio.to_thread(unpack, body, coding, max_bytes=limits.max_body_bytes, lease=lease),
        )
        lease.give(len(packed))
    kind, options = media_type(header(scope, b"content-type"))
    by_gateway = elsewhere.location(scope) is not None
    return Post(request_id_of(scope), kind, options, scope["query_string"], body, via_of(scope), by_gateway)


async def beside_the_loop(post: Post, read: Callable[[], _T]) -> _T:
    """What `read` makes of the body: in a thread, unless that takes less than a millisecond."""
    return await asyncio.to_thread(read) if len(post.body) > SMALL else read()


def post_route(path: str, engine: Engine, answer: Callable[[Post], Awaitable[Any]]) -> HTTPRouteHandler:
    """The route that answers a POST to `path` with what `answer` returns, in the envelope."""

    @post(path, status_code=200)
    async def handle(request: Request[Any, Any, Any]) -> Response[bytes]:
        body = await read_post(request, engine)
        return success(request, await unless_client_leaves(request.receive, answer(body)))

    return handle
