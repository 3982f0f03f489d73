"""The gateways: what came in, what went out, and which node was asked."""

from grafana_foundation_sdk.builders import dashboard as builders

from inference_service.console.exposition import FAILURES
from scripts.dashboards.panels import GOOD_IS_ONE, Query, board, chart, filled, number, row, variable

#: What counts as a failure of the fleet, as in the alert FleetErrors.
FAILED = f'status=~"5..|{"|".join(sorted(FAILURES))}"'
_OF = 'stack=~"$stack"'
_AT = f'{_OF}, instance=~"$gateway"'


def quantiles(matchers: str) -> list[Query]:
    """The times of requests at the gateways that match."""
    return [
        (
            f"histogram_quantile({share}, sum by (le)"
            f" (rate(ai_gateway_request_seconds_bucket{{{matchers}}}[$__rate_interval])))",
            name,
        )
        for share, name in ((0.5, "half within"), (0.95, "95 of 100 within"), (0.99, "99 of 100 within"))
    ]


def dashboard() -> builders.Dashboard:
    """The dashboard of the gateways."""
    made = board(
        "gateway", "Gateway", "What came in at each gateway, what it answered, and which node it asked."
    )
    made = made.with_variable(variable("stack", "Stack", "ai_gateway_node_healthy"))
    made = made.with_variable(
        variable("gateway", "Gateway", 'ai_gateway_node_healthy{stack=~"$stack"}', of="instance")
    )
    return filled(
        made,
        row("Is it there?"),
        number(
            "Readable",
            "The share of the gateways that Prometheus can read.",
            f'avg(up{{{_AT}, job="fleet-gateway"}})',
            "percentunit",
            GOOD_IS_ONE,
            span=8,
        ),
        number(
            "Certificate ends",
            "When the first of the gateways' own certificates ends. Empty without HTTPS.",
            f"min(ai_gateway_certificate_expires_seconds{{{_AT}}}) * 1000",
            "dateTimeFromNow",
            span=8,
        ),
        number(
            "Asked in vain",
            "Nodes that were asked in vain, a second, before another one answered.",
            f"sum(rate(ai_gateway_retries_total{{{_AT}}}[5m]))",
            "reqps",
            ((None, "green"), (1, "orange")),
            span=8,
        ),
        row("What does it answer?"),
        chart(
            "Requests by entrance",
            "HTTP, WebSocket and gRPC.",
            [
                (
                    f"sum by (entrance) (rate(ai_gateway_requests_total{{{_AT}}}[$__rate_interval]))",
                    "{{entrance}}",
                )
            ],
            "reqps",
            stacked=True,
        ),
        chart(
            "Requests by answer",
            "HTTP status or gRPC code.",
            [(f"sum by (status) (rate(ai_gateway_requests_total{{{_AT}}}[$__rate_interval]))", "{{status}}")],
            "reqps",
            stacked=True,
        ),
        chart(
            "Failed",
            "The share that the fleet has to answer for, by gateway. The alert FleetErrors begins at 5 %.",
            [
                (
                    "sum by (instance)"
                    f" (rate(ai_gateway_requests_total{{{_AT}, {FAILED}}}[$__rate_interval]))"
                    f" / sum by (instance) (rate(ai_gateway_requests_total{{{_AT}}}[$__rate_interval]))",
                    "{{instance}}",
                )
            ],
            "percentunit",
            limit=0.05,
        ),
        chart("Time to the answer", "Of the chosen gateways, streams left out.", quantiles(_AT), "s"),
        row("Whom does it ask?"),
        chart(
            "Requests by node",
            "The node that was asked last, by its address.",
            [
                (
                    f"sum by (upstream) (rate(ai_gateway_requests_total{{{_AT}}}[$__rate_interval]))",
                    "{{upstream}}",
                )
            ],
            "reqps",
            stacked=True,
        ),
        chart(
            "Healthy nodes",
            "1 is healthy, 0 is not; by node and state. Drained and skipped nodes get no traffic.",
            [(f"min by (node, state) (ai_gateway_node_healthy{{{_AT}}})", "{{node}} ({{state}})")],
            "short",
            most=1,
        ),
    )
