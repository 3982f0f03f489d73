"""Every node is replaced while every kind of request runs at once: short and long HTTP requests, answers
that come as events, and live streams over gRPC and over WebSockets."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from inference_service.client.over_grpc import over_grpc
from inference_service.client.over_websocket import over_websocket
from tests.e2e.deployment import Site
from tests.e2e.events import ended, events
from tests.e2e.lab.load import load
from tests.e2e.lab.speech import tone
from tests.e2e.talks import Talk, talking


@pytest.mark.long
@pytest.mark.parametrize("parts", [("triton", "service"), ("triton",)], ids=" and ".join)
def test_a_roll_under_every_kind_of_request_at_once_loses_nothing(site: Site, parts: Sequence[str]) -> None:
    site.mark(str(time.time_ns()), parts)
    talks = [
        Talk(over_grpc(f"{site.gateway.address}:9080")),
        Talk(over_grpc(f"{site.gateway.address}:9080")),
        Talk(over_websocket(site.url)),
        Talk(over_websocket(site.url)),
    ]
    with (
        talking(talks),
        load(site.request, rate=10) as short,
        load(lambda: site.request("asr"), rate=0.3) as long,
        load(lambda: events(site.url, tone(2.0)), rate=0.3, check=ended) as answers,
    ):
        applied = site.up().check()
    for seen in (short, long, answers):
        print(seen.summary())
        assert len(seen.outcomes) >= 10
        assert not seen.failures, seen.summary()
    for talk in talks:
        sent = talk.recording.seconds_read * 1000
        print(f"{sent:.0f} ms sent, {talk.answered} answered, went on {len(talk.retries)} times")
        assert talk.failure is None
        assert talk.answered == pytest.approx(sent, abs=50)
    assert any(talk.retries for talk in talks), (
        "every node was replaced, so streams had to go on with the other"
    )
    for node in (each["name"] for each in site.config["nodes"]):
        order = [applied.deleted.index(f"{node}-{part}") for part in ("service", "triton")]
        assert order == sorted(order), f"{node}'s Triton ended while its service still worked"
