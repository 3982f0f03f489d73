"""The metrics of nodes and gateways, from the objects that count them."""

from collections.abc import Iterable

from prometheus_client.metrics import MetricWrapperBase

from inference_service import metrics, runtime_metrics
from inference_service.console.gateway_metrics import SEEN, GatewayMetrics
from scripts.reference import markdown

_HEAD = """\
# Metrics

Names, types and labels of what Prometheus reads. [monitoring.md](../monitoring.md) explains how to read
them and has alerts. Counters start at 0 with their process. A name with `_seconds` has that unit. A histogram
`X` has the series `X_bucket` (with the label `le`), `X_count` and `X_sum`.
"""


def page() -> str:
    """The page as Markdown."""
    seen = [_row(name, "gauge", labels, said) for name, said, labels in SEEN]
    runtime = _row(runtime_metrics.UP, "gauge", (), runtime_metrics.UP_SAID)
    gateway = [*_rows(vars(GatewayMetrics()).values()), *seen]
    return "\n".join(
        (
            _HEAD,
            "## Of a node\n\n`GET /metrics` at its HTTP port, without a key.\n",
            _table([*_rows(vars(metrics).values()), runtime]),
            "\n## Of a gateway\n\n`GET /metrics` at its HTTP entrance, from the console beside it.\n",
            _table(gateway) + "\n",
        )
    )


def _rows(found: Iterable[object]) -> list[list[str]]:
    rows = []
    for each in found:
        if isinstance(each, MetricWrapperBase):
            [described] = each.describe()
            name = described.name + ("_total" if described.type == "counter" else "")
            # Samples tell labels only when there are some.
            rows.append(_row(name, described.type, each._labelnames, described.documentation))
    return rows


def _row(name: str, kind: str, labels: Iterable[str], said: str) -> list[str]:
    told = ", ".join(markdown.code(label) for label in labels)
    return [markdown.code(name), kind, told, markdown.cell(said)]


def _table(rows: list[list[str]]) -> str:
    return markdown.table(("metric", "type", "labels", "what it is"), rows)
