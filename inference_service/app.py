"""The application of one worker: Litestar with the routes of `http`, behind `http.front`."""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from litestar import Litestar
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp, ControllerRouterHandler

from inference_service.engine import Engine
from inference_service.errors import ServiceError
from inference_service.http import analysis, api_page, playground, status, websocket
from inference_service.http.body import ClientGone
from inference_service.http.errors import client_gone, http_exception, internal_error, service_error
from inference_service.http.front import Front
from inference_service.http.openai import models, transcriptions
from inference_service.http.openai.realtime import route as realtime

_log = logging.getLogger(__name__)

#: A server beside HTTP in the same process (gRPC), as a context: it serves inside, and has stopped after it.
SideServer = Callable[[Engine], AbstractAsyncContextManager[None]]

#: Every module with routes: its `routes(engine)` gives Litestar handlers.
ROUTES: tuple[Callable[[Engine], Sequence[ControllerRouterHandler]], ...] = (
    status.routes,
    analysis.routes,
    api_page.routes,
    playground.routes,
    websocket.routes,
    transcriptions.routes,
    models.routes,
    realtime.routes,
)


def create_app(engine: Engine, side_servers: Sequence[SideServer] = ()) -> ASGIApp:
    """The ASGI application over `engine`; its lifespan starts and closes the engine and `side_servers`."""

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(engine.close)
            await engine.start()
            for serve in side_servers:
                await stack.enter_async_context(serve(engine))
            yield

    litestar = Litestar(
        route_handlers=[handler for routes in ROUTES for handler in routes(engine)],
        lifespan=[lifespan],
        exception_handlers={
            ServiceError: service_error,
            ClientGone: client_gone,
            HTTPException: http_exception,
            Exception: internal_error,
        },
        openapi_config=None,
        logging_config=None,
        # Bodies are limited where they are read; this is for handlers that let Litestar read them.
        request_max_body_size=engine.settings.ai.request.max_body_bytes,
    )
    return Front(litestar, engine)
