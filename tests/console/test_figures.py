"""What the console computes from a node's metrics."""

from __future__ import annotations

import math

import pytest

from inference_service.console.exposition import Sample, read
from inference_service.console.figures import between, quantile, together
from inference_service.console.history import History

pytestmark = pytest.mark.fast

PAGE = b"""\
# HELP ai_requests_total Requests answered.
ai_requests_total{entrance="http",route="/api/v1/ai/asr",status="200"} 90.0
ai_requests_total{entrance="http",route="/api/v1/ai/asr",status="503"} 8.0
ai_requests_total{entrance="grpc",route="ProcessAudioData",status="INTERNAL"} 2.0
ai_requests_total{entrance="http",route="/api/v1/ai/health",status="200"} 5000.0
ai_request_seconds_bucket{entrance="http",le="0.5",route="/api/v1/ai/asr"} 50.0
ai_request_seconds_bucket{entrance="http",le="1.0",route="/api/v1/ai/asr"} 98.0
ai_request_seconds_bucket{entrance="http",le="+Inf",route="/api/v1/ai/asr"} 98.0
ai_audio_seconds_total{task="asr"} 600.0
ai_inferences_running 3.0
nv_gpu_utilization{gpu_uuid="a"} 0.4
nv_gpu_utilization{gpu_uuid="b"} 0.8
nv_gpu_memory_used_bytes{gpu_uuid="a"} 1e9
nv_gpu_memory_used_bytes{gpu_uuid="b"} 2e9
ai_broken{ nonsense
"""


def test_probes_count_neither_as_requests_nor_in_the_latency() -> None:
    sample = read(PAGE)
    assert (sample.requests, sample.errors) == (100, 10)
    assert sample.buckets == {0.5: 50, 1.0: 98, math.inf: 98}


def test_gpus_of_a_node_are_averaged_and_their_memory_is_summed() -> None:
    sample = read(PAGE)
    assert sample.gpu_use == pytest.approx(0.6)
    assert sample.gpu_memory_used == 3e9
    assert sample.gpu_memory_total is None


def test_the_labels_of_real_metrics_are_read() -> None:
    from inference_service import metrics

    with metrics.request("http", "/api/v1/ai/asr") as answer:
        answer.status = "200"
    assert read(metrics.render()).requests >= 1


def test_figures_are_those_of_the_interval() -> None:
    before = read(PAGE)
    after = Sample(requests=130, errors=16, audio_seconds=900, buckets={0.5: 70, 1.0: 128, math.inf: 128})
    figures = between(before, after, 10)
    assert figures.requests == 3
    assert figures.errors == pytest.approx(0.2)
    assert figures.audio == 30
    assert figures.p50 == pytest.approx(0.375)


def test_a_node_that_restarted_counts_from_zero() -> None:
    assert between(Sample(requests=1000), Sample(requests=20), 10).requests == 2


def test_nothing_asked_is_no_latency_and_no_share_of_errors() -> None:
    figures = between(Sample(), Sample(), 10)
    assert (figures.p50, figures.p99, figures.errors) == (None, None, None)


@pytest.mark.parametrize(("share", "expected"), [(0.5, 0.5), (0.25, 0.25), (0.75, 0.75), (1.0, 1.0)])
def test_a_quantile_is_linear_within_its_bucket(share: float, expected: float) -> None:
    assert quantile({1.0: 100, math.inf: 100}, share) == pytest.approx(expected)


def test_a_quantile_beyond_the_last_bound_is_that_bound() -> None:
    assert quantile({1.0: 10, math.inf: 100}, 0.99) == 1.0


def test_a_fleet_is_the_sum_of_its_nodes() -> None:
    one = Sample(requests=10, errors=1, running=2, buckets={1.0: 10, math.inf: 10}, gpu_use=0.2)
    two = Sample(requests=30, errors=1, running=1, buckets={1.0: 0, math.inf: 30})
    whole = together([one, two], 10)
    assert (whole.requests, whole.running, whole.errors, whole.gpu) == (4, 3, 0.05, 0.2)


def test_history_keeps_the_last_points_with_their_gaps() -> None:
    history = History(3)
    for when in range(5):
        history.add(when, None if when == 3 else between(Sample(), Sample(requests=when), 1))
    columns = history.columns(["requests"])
    assert columns == {"time": [2, 3, 4], "requests": [2, None, 4]}
    assert history.columns(["requests"], since=3)["time"] == [4]
