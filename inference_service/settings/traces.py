"""Where traces of requests go (OpenTelemetry)."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from inference_service.settings.values import Section, http_url, none_if_empty

#: What OTLP over HTTP adds to the address of a collector.
TRACES_PATH = "/v1/traces"


def collector_url(value: object) -> object:
    """Return a collector's address without a trailing slash; None for `""`. Raises ValueError."""
    if not isinstance(value, str) or not value:
        return none_if_empty(value)
    url = http_url(value)
    if url.endswith(TRACES_PATH):
        raise ValueError(f"expected the collector's address without {TRACES_PATH}, got {value!r}")
    return url


class TracesSettings(Section):
    """Traces of requests, sent to a collector by OTLP over HTTP; they need the extra `otel`."""

    endpoint: Annotated[str | None, BeforeValidator(collector_url)] = Field(
        default=None,
        description="The collector's address, such as http://192.0.2.30:4318. Default: no traces.",
    )
    share: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="The share of requests that are traced; a client's `traceparent` decides of its own.",
    )
    resource: dict[str, str] = Field(
        default={}, description="Attributes of all spans, such as `service.instance.id`."
    )
