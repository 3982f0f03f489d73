"""What the console finds wrong with a node."""

from __future__ import annotations

from typing import Any

import pytest

from inference_service.console import findings
from inference_service.console.watched import Watched

pytestmark = pytest.mark.fast

NOW = 1_800_000_000.0


def node(version: str = "0.2.0", model: str = "abc", name: str = "whisper", **info: Any) -> Watched:
    watched = Watched()
    watched.saw("healthy", "", NOW - 4000)
    cards = {"asr": {"name": name, "version": model}}
    watched.described({"version": version, "model_cards": cards, "timestamp": int(NOW), **info}, NOW)
    return watched


def found(one: Watched, *others: Watched) -> list[str]:
    nodes = {"gpu-1": one, **{f"gpu-{number + 2}": each for number, each in enumerate(others)}}
    return findings.of("gpu-1", nodes, NOW)


def test_nothing_is_wrong_with_nodes_that_are_alike() -> None:
    assert found(node(), node(), node()) == []
    assert found(node()) == []
    assert found(Watched(), node()) == []


def test_a_node_with_another_version_than_most_is_named_and_the_others_are_not() -> None:
    assert found(node("0.1.0"), node(), node()) == ["It runs version 0.1.0, most nodes run 0.2.0."]
    assert found(node(), node("0.1.0"), node()) == []
    assert found(node("0.1.0"), node()) == [], "of two that differ, neither is wrong"


def test_another_version_of_the_same_model_is_named_and_another_model_is_not() -> None:
    assert found(node(model="old"), node(), node()) == [
        "Its asr model whisper is version old, most nodes have abc."
    ]
    assert found(node(name="parakeet", model="1"), node(), node()) == []


@pytest.mark.parametrize(
    ("seconds", "words"), [(60, ["60 s ahead of"]), (-3600, ["3600 s behind"]), (3, []), (-3, [])]
)
def test_a_clock_that_is_wrong_by_more_than_five_seconds_is_named(seconds: int, words: list[str]) -> None:
    told = found(node(timestamp=int(NOW) + seconds))
    assert len(told) == len(words)
    assert all(word in line for word, line in zip(words, told, strict=True))


def test_a_node_that_went_away_is_named_for_an_hour() -> None:
    one = node()
    for away in (NOW - 5000, NOW - 600, NOW - 60):
        one.saw("down", "its port is closed", away)
        one.saw("healthy", "", away + 10)
    assert found(one, node()) == ["It stopped answering 2 times in the last hour. Its log may say why."]


def test_a_node_that_does_not_serve_says_why_first() -> None:
    one = node("0.1.0")
    one.saw("unhealthy", "the model asr is not ready", NOW)
    assert found(one, node(), node())[0] == "The node is unhealthy: the model asr is not ready."
    assert len(found(one, node(), node())) == 2
