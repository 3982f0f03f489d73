"""The fleet: does it answer, how fast, how much, and which node is why."""

from grafana_foundation_sdk.builders import dashboard as builders

from scripts.dashboards.gateway import FAILED, quantiles
from scripts.dashboards.panels import (
    BAD_IS_MORE,
    GOOD_IS_ONE,
    board,
    chart,
    filled,
    listing,
    number,
    row,
    variable,
)

_OF = 'stack=~"$stack"'
_SERVING = f'ai_gateway_node_healthy{{{_OF}, state="serving"}}'


def dashboard() -> builders.Dashboard:
    """The dashboard to look at first."""
    made = board(
        "fleet", "Fleet", "Whether the fleet answers, how fast, how full it is, and which node is why."
    )
    made = made.with_variable(variable("stack", "Stack", "ai_gateway_node_healthy"))
    return filled(
        made,
        row("Does it answer?"),
        number(
            "Healthy nodes",
            "The share of the nodes with traffic that are healthy, as their gateways see them.",
            f"avg({_SERVING})",
            "percentunit",
            ((None, "red"), (0.5, "orange"), (1, "green")),
        ),
        number(
            "Gateways",
            "The share of the gateways that Prometheus can read.",
            f'avg(up{{{_OF}, job="fleet-gateway"}})',
            "percentunit",
            GOOD_IS_ONE,
        ),
        number(
            "Requests",
            "Requests for a model at all gateways.",
            f"sum(rate(ai_gateway_requests_total{{{_OF}}}[5m]))",
            "reqps",
        ),
        number(
            "Failed",
            "The share of requests that the fleet has to answer for.",
            f"(sum(rate(ai_gateway_requests_total{{{_OF}, {FAILED}}}[5m])) or vector(0))"
            f" / (sum(rate(ai_gateway_requests_total{{{_OF}}}[5m])) > 0)",
            "percentunit",
            ((None, "green"), (0.01, "orange"), (0.05, "red")),
        ),
        number(
            "99 of 100 within",
            "The time that the slowest request of a hundred takes, streams left out.",
            f"histogram_quantile(0.99, sum by (le) (rate(ai_gateway_request_seconds_bucket{{{_OF}}}[5m])))",
            "s",
            ((None, "green"), (10, "orange"), (30, "red")),
        ),
        number(
            "Alerts",
            "Alerts that fire now.",
            'count(ALERTS{alertname=~"Fleet.*", alertstate="firing"}) or vector(0)',
            "short",
            BAD_IS_MORE,
        ),
        row("How much, and how fast?"),
        chart(
            "Requests by answer",
            "At all gateways, by HTTP status or gRPC code.",
            [(f"sum by (status) (rate(ai_gateway_requests_total{{{_OF}}}[$__rate_interval]))", "{{status}}")],
            "reqps",
            stacked=True,
        ),
        chart("Time to the answer", "Streams left out.", quantiles(_OF), "s"),
        chart(
            "Audio",
            "Seconds of audio inferred in a second, by task: 1 is as fast as it is spoken.",
            [(f"sum by (task) (rate(ai_audio_seconds_total{{{_OF}}}[$__rate_interval]))", "{{task}}")],
            "short",
        ),
        chart(
            "Live streams",
            "Open audio streams, by node.",
            [(f"sum by (node) (ai_streams_open{{{_OF}}})", "{{node}}")],
            "short",
            stacked=True,
        ),
        row("Which node is why?"),
        listing(
            "Nodes",
            "What each node does now. Its name leads to the dashboard Node.",
            [
                ("Healthy", f"min by (node) ({_SERVING})", "bool_yes_no"),
                ("Running", f"sum by (node) (ai_inferences_running{{{_OF}}})", "short"),
                ("Queued", f"sum by (node) (ai_inferences_queued{{{_OF}}})", "short"),
                ("Refused", f"sum by (node) (rate(ai_inferences_refused_total{{{_OF}}}[5m]))", "reqps"),
                ("Requests", f"sum by (node) (rate(ai_requests_total{{{_OF}}}[5m]))", "reqps"),
                ("Started", f"max by (node) (ai_start_time_seconds{{{_OF}}}) * 1000", "dateTimeFromNow"),
            ],
            by="node",
            to="/d/gpu-inference-node?var-node=${__value.raw}&${datasource:queryparam}&${stack:queryparam}",
        ),
        chart(
            "Queued work",
            "Inferences that wait for a slot. A queue that stays means that the fleet is too small.",
            [(f"sum by (node) (ai_inferences_queued{{{_OF}}})", "{{node}}")],
            "short",
        ),
        chart(
            "Refused work",
            "Inferences that a full node refused; the gateway asks another node.",
            [(f"sum by (node) (rate(ai_inferences_refused_total{{{_OF}}}[$__rate_interval]))", "{{node}}")],
            "reqps",
        ),
    )
