"""Traces of a stack's requests: where the nodes send them."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

from inference_service.settings import collector_url
from infra.stack.node import Node
from infra.stack.problems import Problem
from infra.stack.section import Section
from infra.stack.shown import shown

_LOOPBACK = re.compile(r"https?://(localhost|127\.[0-9.]+|\[::1\])([:/]|$)")


def _collector(value: object) -> object:
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected http(s)://host[:port], got {shown(value)}")
    return collector_url(value)


class Traces(Section):
    """Traces of requests (OpenTelemetry), through the service and Triton of each node."""

    endpoint: (
        Annotated[
            str,
            BeforeValidator(_collector),
            WithJsonSchema({"type": "string", "pattern": "^https?://[^\\s@]+$"}),
        ]
        | None
    ) = None
    """The collector to which nodes send them by OTLP over HTTP, such as http://192.0.2.30:4318. Default: no
    traces."""
    share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """The share of requests that are traced. A client that sends `traceparent` decides itself."""


def check(nodes: Mapping[int, Node], traces: Traces) -> Iterator[Problem]:
    """Yields the problems of every rule; `nodes` are the valid nodes by position."""
    if traces.endpoint is None:
        if "share" in traces.model_fields_set:
            yield Problem(
                "traces.endpoint", "required with traces.share: http(s)://host[:port] of a collector"
            )
    elif _LOOPBACK.match(traces.endpoint) and any(not node.embedded for node in nodes.values()):
        yield Problem(
            "traces.endpoint",
            f"{traces.endpoint} is each container itself; expected an address that every node reaches",
        )
