"""Routes for monitoring and for people: /health, /metrics, …/health, …/info, …/log.

`/health`, `/metrics` and `…/health` need no API key: Docker's health check, Prometheus and the gateway call
them and must not hold the clients' keys. Their responses hold nothing about any client's audio.
"""

import asyncio
import time
from typing import Annotated, Any, Literal, get_args

import msgspec
from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import Parameter

from inference_service import __version__, logs, metrics
from inference_service.engine import Engine
from inference_service.errors import Draining, NotReady
from inference_service.http.analysis import BASE
from inference_service.http.envelope import JSON, error_headers, now, success
from inference_service.model_cards import ModelDescription
from inference_service.runtime_metrics import RuntimeMetrics
from inference_service.settings import BackendName
from inference_service.tasks import Task

SERVICE = "ai-inference-service"


class ProcessHealth(msgspec.Struct, frozen=True):
    """`/health`: whether the process accepts work."""

    status: Literal["ok", "draining"]
    service: str
    time: Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]


class Health(msgspec.Struct, frozen=True):
    """`data` of `…/health`; `timestamp` in Unix seconds."""

    status: Literal["healthy"]
    service: str
    timestamp: int


class Info(msgspec.Struct, frozen=True):
    """`data` of `…/info`; `timestamp` in Unix seconds.

    `models` are the models' names by task. `model_cards` is what each model says of itself, by role: asr,
    emotion, emotion_text, synthesis.
    """

    service: str
    version: str
    description: str
    capabilities: list[Task]
    models: dict[str, str]
    model_cards: dict[str, ModelDescription]
    runtime: Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(get_args(BackendName))})]
    timestamp: int


class Log(msgspec.Struct, frozen=True):
    """`data` of `…/log`: the last lines of one worker's log, oldest first, each a JSON object."""

    lines: list[str]


def routes(engine: Engine) -> list[HTTPRouteHandler]:
    """The status routes over `engine`."""
    runtime_metrics = RuntimeMetrics(engine.settings)

    @get("/health")
    async def process_health() -> Response[bytes]:
        # A load balancer that checks this route must stop sending to a node that drains.
        health = ProcessHealth("draining" if engine.draining else "ok", SERVICE, now())
        body = msgspec.json.encode(health)
        if engine.draining:
            return Response(body, status_code=503, headers=error_headers(Draining()), media_type=JSON)
        return Response(body, status_code=200, media_type=JSON)

    @get("/metrics")
    async def prometheus() -> Response[bytes]:
        metrics.READY.set((await engine.readiness()).ready)
        own, runtimes = await asyncio.gather(asyncio.to_thread(metrics.render), runtime_metrics.text())
        return Response(own + runtimes, media_type=metrics.CONTENT_TYPE)

    @get(f"{BASE}/health")
    async def health(request: Request[Any, Any, Any]) -> Response[bytes]:
        readiness = await engine.readiness()
        if not readiness.ready:
            raise NotReady("; ".join(readiness.problems))
        return success(request, Health("healthy", SERVICE, int(time.time())))

    @get(f"{BASE}/info")
    async def info(request: Request[Any, Any, Any]) -> Response[bytes]:
        models = engine.settings.ai.models
        described = await engine.offer.describe()
        return success(
            request,
            Info(
                service=SERVICE,
                version=__version__,
                description="Speech recognition, emotion detection and synthetic-speech detection",
                capabilities=[task for task in Task if task in engine.capabilities],
                models={task.model: models.for_task(task).model_name for task in Task},
                model_cards={str(role): card for role, card in described.items()},
                runtime=engine.runtime.name,
                timestamp=int(time.time()),
            ),
        )

    @get(f"{BASE}/log")
    async def log(
        request: Request[Any, Any, Any], lines: Annotated[int, Parameter(ge=1, le=1000)] = 200
    ) -> Response[bytes]:
        return success(request, Log(logs.recent(lines)))

    return [process_health, prometheus, health, info, log]
