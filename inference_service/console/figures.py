"""What happened between two samples: rates, the share of errors, quantiles of latency. Pure."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from inference_service.console.exposition import Sample

_SUMS: Final = ("requests", "errors", "audio_seconds", "refused", "running", "queued", "streams")


class Figures(msgspec.Struct, frozen=True):
    """A node or the gateway over an interval.

    Rates are per second, `errors` is a share of 1, latencies are in seconds. None where nothing was asked.
    """

    requests: float = 0.0
    errors: float | None = None
    p50: float | None = None
    p99: float | None = None
    audio: float = 0.0
    running: int = 0
    queued: int = 0
    streams: int = 0
    gpu: float | None = None
    gpu_memory: float | None = None
    gpu_memory_total: float | None = None


def between(before: Sample, after: Sample, seconds: float) -> Figures:
    """The figures of the `seconds` between two samples of one node. A restart counts from zero."""
    grown = growth(before, after)
    return Figures(
        requests=grown.requests / seconds,
        errors=grown.errors / grown.requests if grown.requests else None,
        p50=quantile(grown.buckets, 0.5),
        p99=quantile(grown.buckets, 0.99),
        audio=grown.audio_seconds / seconds,
        running=int(after.running),
        queued=int(after.queued),
        streams=int(after.streams),
        gpu=after.gpu_use,
        gpu_memory=after.gpu_memory_used,
        gpu_memory_total=after.gpu_memory_total,
    )


def growth(before: Sample, after: Sample) -> Sample:
    """The increase of each counter between two samples of one node; gauges are those of the second."""
    return Sample(
        requests=_grown(before.requests, after.requests),
        errors=_grown(before.errors, after.errors),
        audio_seconds=_grown(before.audio_seconds, after.audio_seconds),
        refused=_grown(before.refused, after.refused),
        running=after.running,
        queued=after.queued,
        streams=after.streams,
        buckets={
            bound: _grown(before.buckets.get(bound, 0.0), count) for bound, count in after.buckets.items()
        },
        gpu_use=after.gpu_use,
        gpu_memory_used=after.gpu_memory_used,
        gpu_memory_total=after.gpu_memory_total,
    )


def together(grown: Sequence[Sample], seconds: float) -> Figures:
    """The figures of a whole fleet, from the increases at each node in the same `seconds`."""
    bounds = {bound for each in grown for bound in each.buckets}
    whole = Sample(
        **{name: sum(getattr(each, name) for each in grown) for name in _SUMS},
        buckets={bound: sum(each.buckets.get(bound, 0.0) for each in grown) for bound in bounds},
        gpu_use=_mean([each.gpu_use for each in grown]),
        gpu_memory_used=_sum([each.gpu_memory_used for each in grown]),
        gpu_memory_total=_sum([each.gpu_memory_total for each in grown]),
    )
    return between(Sample(), whole, seconds)


def quantile(buckets: Mapping[float, float], share: float) -> float | None:
    """A quantile of a cumulative histogram, as Prometheus' histogram_quantile: linear within a bucket.

    None without observations; the largest finite bound for what lies above it.
    """
    bounds = sorted(buckets)
    if not bounds or not buckets[bounds[-1]]:
        return None
    rank = share * buckets[bounds[-1]]
    below, lower = 0.0, 0.0
    for bound in bounds:
        count = buckets[bound]
        if count >= rank:
            if math.isinf(bound):
                return lower
            inside = count - below
            return lower + (bound - lower) * ((rank - below) / inside if inside else 1.0)
        below, lower = count, bound
    return lower


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _grown(before: float, after: float) -> float:
    return after - before if after >= before else after
