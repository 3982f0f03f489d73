"""Times of words and segments, in order and without overlap."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_service.http.openai.subtitles import srt
from inference_service.tasks import Segment, Word
from inference_service.word_times import in_order

pytestmark = pytest.mark.fast

moments = st.floats(0, 100)
spans = st.lists(st.tuples(moments, moments), max_size=12)


def segment(words: list[tuple[float, float]], at: tuple[float, float] = (0.0, 0.0)) -> Segment:
    said = [Word("word", start, end, 0.9) for start, end in words]
    return Segment(0, *at, "word " * len(words) or "nothing", -0.1, 0.0, said or None)


def times(segments: list[Segment]) -> list[float]:
    return [moment for each in segments for word in each.words or () for moment in (word.start, word.end)]


@given(st.lists(st.tuples(spans, st.tuples(moments, moments)), max_size=5))
def test_words_segments_and_cues_never_overlap_or_run_backwards(
    given_: list[tuple[list[tuple[float, float]], tuple[float, float]]],
) -> None:
    ordered = in_order([segment(words, at) for words, at in given_])
    assert times(ordered) == sorted(times(ordered))
    edges = [moment for each in ordered for moment in (each.start, each.end)]
    assert edges == sorted(edges)
    shown = [(h * 3600 + m * 60 + s) * 1000 + ms for h, m, s, ms in stamps(srt(ordered))]
    assert shown == sorted(shown)


def stamps(text: str) -> list[tuple[int, int, int, int]]:
    return [
        (int(h), int(m), int(s), int(ms))
        for h, m, s, ms in re.findall(r"(\d\d+):(\d\d):(\d\d),(\d{3})", text)
    ]


def test_of_two_words_that_overlap_the_first_ends_where_the_second_begins() -> None:
    (ordered,) = in_order([segment([(1.0, 3.0), (2.0, 2.5)])])
    assert [(word.start, word.end) for word in ordered.words or ()] == [(1.0, 2.0), (2.0, 2.5)]


def test_times_that_are_in_order_stay_as_they_are() -> None:
    said = [segment([(0.5, 1.0), (1.0, 1.4)], (0.5, 1.4)), segment([(2.0, 2.2)], (2.0, 2.2))]
    assert in_order(said) == said
    assert all(earlier.end <= later.start for earlier, later in pairwise(in_order(said)))
