"""The hour before the console started, from a Prometheus that has read the fleet."""

import asyncio
import json
import math
import ssl
import sys
import time
import urllib.parse
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from inference_service.console.asking import Connection, NoAnswer
from inference_service.console.exposition import FAILURES, NO_WORK
from inference_service.console.figures import Figures
from inference_service.console.history import History

SECONDS, STEP_SECONDS = 3600, 15
_ANSWER_SECONDS = 5
#: For all queries together.
_ALL_SECONDS = 30
#: Longer than three of Prometheus's usual intervals: a rate needs two readings.
_RATE = "1m"

Moments = list[tuple[float, Figures]]


class NoHistory(Exception):
    """Prometheus gave no history; `str(error)` has the reason."""


class Recalled(NamedTuple):
    """The moments of the fleet and of each node by name, oldest first."""

    fleet: Moments
    nodes: dict[str, Moments]


async def fill(prometheus: str, stack: str, fleet: History, nodes: Mapping[str, History]) -> None:
    """Puts the hour before the start into the histories. Without an answer it logs why, and changes none."""
    connection = Connection(prometheus, {}, ssl.create_default_context())
    try:
        async with asyncio.timeout(_ALL_SECONDS):
            prefix = urllib.parse.urlsplit(prometheus).path.rstrip("/")
            found = await recall(connection, prefix, stack, time.time())
    except (NoHistory, TimeoutError) as error:
        print(f"no history from {prometheus}: {str(error) or 'no answer in time'}", file=sys.stderr)
    else:
        fleet.recall(found.fleet)
        for name, moments in found.nodes.items():
            if name in nodes:
                nodes[name].recall(moments)
    finally:
        connection.close()


async def recall(connection: Connection, prefix: str, stack: str, now: float) -> Recalled:
    """What Prometheus knows of the stack in the hour before `now` (Unix seconds).

    `prefix` is the path before Prometheus's own. Raises NoHistory.
    """
    fleet = await _asked(connection, prefix, queries(stack, ""), now)
    nodes = await _asked(connection, prefix, queries(stack, "by (node) "), now)
    return Recalled(
        _moments(fleet.get("", {})), {name: _moments(each) for name, each in nodes.items() if name}
    )


def queries(stack: str, by: str) -> dict[str, str]:
    """A query for each figure; `by` groups sums, as PromQL writes it."""
    nodes = f'stack={json.dumps(stack)},node!=""'
    work = f"{nodes},route!~{json.dumps(NO_WORK.pattern)}"
    failed = f'{work},status=~"5..|{"|".join(sorted(FAILURES))}"'
    asked = f"sum {by}(rate(ai_requests_total{{{work}}}[{_RATE}]))"
    # A counter that nothing has raised is not there, and means 0. Probes raise theirs on every node that was
    # read twice: without a rate of those, nothing is known.
    requests = f"({asked} or 0 * sum {by}(rate(ai_requests_total{{{nodes}}}[{_RATE}])))"
    errors = f"(sum {by}(rate(ai_requests_total{{{failed}}}[{_RATE}])) or 0 * {asked}) / ({asked} > 0)"
    both = by.replace(")", ", le)") if by else "by (le) "
    buckets = f"sum {both}(rate(ai_request_seconds_bucket{{{work}}}[{_RATE}]))"
    return {
        "requests": requests,
        "errors": errors,
        "p50": f"histogram_quantile(0.5, {buckets})",
        "p99": f"histogram_quantile(0.99, {buckets})",
        "audio": f"sum {by}(rate(ai_audio_seconds_total{{{nodes}}}[{_RATE}]))",
        "running": f"sum {by}(ai_inferences_running{{{nodes}}})",
        "queued": f"sum {by}(ai_inferences_queued{{{nodes}}})",
        "streams": f"sum {by}(ai_streams_open{{{nodes}}})",
        "gpu": f"avg {by}(nv_gpu_utilization{{{nodes}}})",
        "gpu_memory": f"sum {by}(nv_gpu_memory_used_bytes{{{nodes}}})",
    }


async def _asked(
    connection: Connection, prefix: str, asked: dict[str, str], now: float
) -> dict[str, dict[float, dict[str, float]]]:
    """The values by node (empty: the fleet), time and figure."""
    found: dict[str, dict[float, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for figure, query in asked.items():
        window = {"start": f"{now - SECONDS:.0f}", "end": f"{now:.0f}", "step": str(STEP_SECONDS)}
        path = f"{prefix}/api/v1/query_range?{urllib.parse.urlencode({'query': query, **window})}"
        try:
            answer = await connection.get(path, _ANSWER_SECONDS)
        except NoAnswer as error:
            raise NoHistory(str(error)) from None
        if answer.status != 200:
            raise NoHistory(f"HTTP {answer.status}")
        for node, when, value in _series(answer.body):
            found[node][when][figure] = value
    return found


def _series(body: bytes) -> Iterator[tuple[str, float, float]]:
    """Node, time and value of each point in an answer. Raises NoHistory for what is none of Prometheus's."""
    try:
        told: Any = json.loads(body)
        for series in told["data"]["result"]:
            for when, text in series["values"]:
                if not math.isnan(value := float(text)) and not math.isinf(value):
                    yield str(series["metric"].get("node", "")), float(when), value
    except (ValueError, KeyError, TypeError, AttributeError):
        raise NoHistory("it does not answer as Prometheus does") from None


def _moments(by_time: dict[float, dict[str, float]]) -> Moments:
    # A part that was not read, or only once so that it has no rates, has no moment: a gap.
    known = {when: values for when, values in by_time.items() if {"running", "requests"} <= values.keys()}
    return [(when, _figures(values)) for when, values in sorted(known.items())]


def _figures(values: dict[str, float]) -> Figures:
    return Figures(
        requests=values["requests"],
        errors=values.get("errors"),
        p50=values.get("p50"),
        p99=values.get("p99"),
        audio=values.get("audio", 0.0),
        running=int(values["running"]),
        queued=int(values.get("queued", 0)),
        streams=int(values.get("streams", 0)),
        gpu=values.get("gpu"),
        gpu_memory=values.get("gpu_memory"),
    )
