"""The console's pages and its data."""

import asyncio
import hmac
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import msgspec
from litestar import Litestar, Request, Response, get
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException, NotFoundException
from litestar.handlers import BaseRouteHandler
from litestar.params import Parameter
from litestar.static_files import create_static_files_router

from inference_service import __version__, pages
from inference_service.console import findings, gateway_log, members
from inference_service.console.asking import NoAnswer
from inference_service.console.figures import Figures
from inference_service.console.gateway_metrics import Node
from inference_service.console.history import SERIES
from inference_service.console.settings import ConsoleSettings, WatchedNode
from inference_service.console.watched import Watched
from inference_service.console.watcher import Watcher

_STATIC = Path(__file__).parent / "static"
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


class PartView(msgspec.Struct, frozen=True):
    """A node or the gateway as the page shows it; times are Unix seconds, 0 for never."""

    name: str
    host: str
    role: str
    state: str
    health: str
    reason: str
    since: float
    changed: float
    version: str
    models: list[dict[str, str]]
    figures: Figures | None
    findings: list[str]


class FleetView(msgspec.Struct, frozen=True):
    """The whole fleet now."""

    stack: str
    version: str
    now: float
    began: float
    figures: Figures | None
    gateway: PartView
    nodes: list[PartView]
    guarded: bool


def build(settings: ConsoleSettings, file: Path | None = None) -> Litestar:
    """The console as an application that watches the fleet while it runs.

    `file` is that of the settings, which it reads again for the nodes in it.
    """
    watchers: list[Watcher] = []

    @asynccontextmanager
    async def watching(_: Litestar) -> AsyncIterator[None]:
        log = await gateway_log.listen(settings.log_socket) if settings.log_socket else None
        watchers.append(Watcher(settings, log, file))
        task = asyncio.create_task(watchers[0].run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        offered = connection.headers.get("x-api-key") or connection.headers.get(
            "authorization", ""
        ).removeprefix("Bearer ")
        opening = (settings.password,) if settings.password else settings.api_keys
        known = [hmac.compare_digest(offered.encode(), each.encode()) for each in opening]
        if opening and not any(known):
            raise NotAuthorizedException(f"missing or wrong {'password' if settings.password else 'API key'}")

    @get("/console/api/fleet", guards=[guard])
    async def fleet() -> FleetView:
        watcher = watchers[0]
        watcher.look()
        return FleetView(
            stack=settings.stack,
            version=__version__,
            now=time.time(),
            began=watcher.began,
            figures=watcher.fleet.figures,
            gateway=_view("gateway", watcher.settings.gateway, "gateway", "serving", watcher.gateway),
            nodes=[
                _view(
                    node.name,
                    node.host or node.url,
                    node.role,
                    node.state,
                    watcher.nodes[node.name],
                    findings.of(node.name, watcher.nodes, time.time()),
                )
                for node in watcher.shown
            ],
            guarded=bool(settings.guard),
        )

    @get("/console/api/history", guards=[guard])
    async def history(
        part: str = "", since: Annotated[float, Parameter(ge=0)] = 0.0
    ) -> dict[str, list[float | None]]:
        """The series of a node or the gateway after `since` (Unix seconds); without `part`, of the fleet."""
        watcher = watchers[0]
        parts = {"": watcher.fleet, "gateway": watcher.gateway, **watcher.nodes}
        if part not in parts:
            raise NotFoundException(f"there is no node {part}; there are {', '.join(watcher.nodes)}")
        return parts[part].history.columns(SERIES, since)

    @get("/console/api/nodes/{name:str}/log", guards=[guard])
    async def log(name: str, lines: Annotated[int, Parameter(ge=1, le=1000)] = 200) -> dict[str, Any]:
        """The last lines of a node's log, or why they cannot be had."""
        node = next((each for each in watchers[0].shown if each.name == name), None)
        if node is None:
            raise NotFoundException(f"there is no node {name}")
        try:
            answer = await watchers[0].log_of(node, lines)
            if answer.status != 200:
                return {"error": answer.body.decode(errors="replace")}
            return {"lines": json.loads(answer.body)["data"]["lines"]}
        except (NoAnswer, ValueError, KeyError, TypeError) as error:
            return {"error": f"the node does not answer: {error}"}

    @get("/metrics", guards=[guard])
    async def metrics() -> Response[bytes]:
        """The gateway's metrics and the nodes' health, for Prometheus."""
        watcher = watchers[0]
        nodes = [_told(watcher, node) for node in watcher.settings.nodes]
        text = watcher.gateway_metrics.render(nodes, watcher.gateway.certificate_ends)
        return Response(text, media_type=_PROMETHEUS)

    @get(["/", "/console"])
    async def page(request: Request[Any, Any, Any]) -> Response[bytes]:
        name = "console.html" if request.url.path.startswith("/console") else "index.html"
        return Response((_STATIC / name).read_bytes(), media_type="text/html", headers=pages.HEADERS)

    @get("/console/api/entrance")
    async def entrance() -> dict[str, Any]:
        """What the landing page shows to everybody: whether the fleet answers, and no names."""
        watcher = watchers[0]
        watcher.look()
        serving = [watcher.nodes[node.name].health for node in watcher.shown if node.state == "serving"]
        return {
            "nodes": len(serving),
            "healthy": serving.count("healthy"),
            "guarded": bool(settings.api_keys),
            "opened_by": settings.guard,
            "version": __version__,
        }

    static = create_static_files_router(
        "/console/static", [_STATIC, pages.SHARED], name="static", include_in_schema=False
    )
    return Litestar(
        [fleet, history, log, metrics, page, entrance, static],
        lifespan=[watching],
        openapi_config=None,
        logging_config=None,
    )


def _told(watcher: Watcher, node: WatchedNode) -> Node:
    """A node, or a pool as one, as Prometheus gets it: alerts and dashboards know pools."""
    if node.pool:
        healths = {name: each.health for name, each in watcher.nodes.items()}
        return Node(node.name, node.state, members.health(node.name, healths))
    now = watcher.nodes[node.name]
    return Node(node.name, node.state, now.health, now.certificate_ends)


def _view(
    name: str, host: str, role: str, state: str, watched: Watched, found: Sequence[str] = ()
) -> PartView:
    info = watched.info or {}
    cards = info.get("model_cards") or {}
    models = [
        {
            "task": role_,
            "name": str(card.get("name") or card.get("model_name") or ""),
            "version": str(card.get("version") or ""),
        }
        for role_, card in cards.items()
    ]
    return PartView(
        name=name,
        host=host,
        role=role,
        state=state,
        health=watched.health,
        reason=watched.reason,
        since=watched.since,
        changed=watched.changed,
        version=str(info.get("version", "")),
        models=models,
        figures=watched.figures,
        findings=list(found),
    )
