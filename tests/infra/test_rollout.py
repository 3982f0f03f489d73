"""The order of a rollout: canaries one by one, then batches."""

from __future__ import annotations

import pytest

from infra.program.rollout import batches
from infra.stack import parse

pytestmark = pytest.mark.fast

NODES = ["a", "b", "c", "d", "e"]


def order(**rollout: object) -> list[list[str]]:
    stack = parse({"nodes": ["ssh://root@192.0.2.1"], "rollout": rollout})
    return batches(NODES, stack.rollout)


@pytest.mark.parametrize(
    ("rollout", "expected"),
    [
        ({}, [["a"], ["b"], ["c"], ["d"], ["e"]]),
        ({"canary": 1, "batch": 2}, [["a"], ["b", "c"], ["d", "e"]]),
        ({"canary": 2, "batch": 10}, [["a"], ["b"], ["c", "d", "e"]]),
        ({"canary": 0, "batch": "40%"}, [["a", "b"], ["c", "d"], ["e"]]),
        ({"canary": 0, "batch": "100%"}, [NODES]),
        ({"canary": 1, "batch": "1%"}, [["a"], ["b"], ["c"], ["d"], ["e"]]),
        ({"canary": 9}, [["a"], ["b"], ["c"], ["d"], ["e"]]),
    ],
)
def test_every_node_changes_once_and_in_its_batch(
    rollout: dict[str, object], expected: list[list[str]]
) -> None:
    assert order(**rollout) == expected
