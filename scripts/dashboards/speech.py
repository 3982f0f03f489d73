"""Speech: how much of it, how fast against its length, and how far streams lag behind the speaker."""

from grafana_foundation_sdk.builders import dashboard as builders

from scripts.dashboards.node import OF, variables
from scripts.dashboards.panels import board, chart, filled, number, row


def _lag(result: str, share: float, over: str = "$__rate_interval") -> str:
    return (
        f"histogram_quantile({share}, sum by (le)"
        f' (rate(ai_stream_lag_seconds_bucket{{{OF}, result="{result}"}}[{over}])))'
    )


def dashboard() -> builders.Dashboard:
    """The dashboard of speech."""
    made = variables(
        board(
            "speech",
            "Speech",
            "How much speech, how fast against its length, and how far streams lag behind.",
        )
    )
    return filled(
        made,
        row("How much?"),
        number(
            "Audio in an hour",
            "Audio that was inferred in the last hour, of all tasks.",
            f"sum(increase(ai_audio_seconds_total{{{OF}}}[1h]))",
            "s",
            span=8,
        ),
        number(
            "Live streams",
            "Open audio streams.",
            f"sum(ai_streams_open{{{OF}}})",
            "short",
            span=8,
        ),
        number(
            "Final text within",
            "99 of 100 final results of streams came so soon after the audio was there.",
            _lag("final", 0.99, "5m"),
            "s",
            ((None, "green"), (2, "orange"), (5, "red")),
            span=8,
        ),
        row("How fast?"),
        chart(
            "Audio by task",
            "Seconds of audio inferred in a second: 1 is as fast as it is spoken.",
            [(f"sum by (task) (rate(ai_audio_seconds_total{{{OF}}}[$__rate_interval]))", "{{task}}")],
            "short",
            stacked=True,
        ),
        chart(
            "Runtime for a second of audio",
            "The time that the runtime spends on a second of audio, by task: below 1 is faster than speech.",
            [
                (
                    f"sum by (task) (rate(ai_runtime_seconds_sum{{{OF}}}[$__rate_interval]))"
                    f" / sum by (task) (rate(ai_audio_seconds_total{{{OF}}}[$__rate_interval]) > 0)",
                    "{{task}}",
                )
            ],
            "s",
            limit=1,
        ),
        chart(
            "Time in the runtime",
            "99 of 100 calls, by task.",
            [
                (
                    f"histogram_quantile(0.99, sum by (task, le)"
                    f" (rate(ai_runtime_seconds_bucket{{{OF}}}[$__rate_interval])))",
                    "{{task}}",
                )
            ],
            "s",
        ),
        chart(
            "Requests by route",
            "At the nodes.",
            [(f"sum by (route) (rate(ai_requests_total{{{OF}}}[$__rate_interval]))", "{{route}}")],
            "reqps",
            stacked=True,
        ),
        row("Do streams keep up?"),
        chart(
            "Lag of partial text",
            "From the audio to the partial result.",
            [(_lag("partial", 0.5), "half within"), (_lag("partial", 0.99), "99 of 100 within")],
            "s",
        ),
        chart(
            "Lag of final text",
            "From the audio to the final result.",
            [(_lag("final", 0.5), "half within"), (_lag("final", 0.99), "99 of 100 within")],
            "s",
        ),
    )
