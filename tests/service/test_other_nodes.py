"""What a node says to a gateway of a request that another node should answer, and to everybody else."""

from __future__ import annotations

from typing import Any

import pytest
from litestar.types import Scope

from inference_service.errors import NotHere, NotReady, RuntimeLost
from inference_service.http.elsewhere import refusal

pytestmark = pytest.mark.fast

LOST = RuntimeLost("Triton ended while it ran model asr")


def scope(**headers: str) -> Scope:
    given: Any = {
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    }
    return given


def test_a_gateway_is_sent_to_one_more_node_when_the_runtime_ended_at_the_request() -> None:
    # Not 503, at which nginx asks all nodes.
    assert refusal(scope(x_ai_lost="@once_more"), LOST) == (500, {"x-accel-redirect": "@once_more"})


def test_a_client_gets_the_error_itself() -> None:
    assert refusal(scope(), LOST) == (503, {})
    assert refusal(scope(x_ai_lost="/etc/passwd"), LOST) == (503, {}), "not a location of the gateway"


def test_what_has_not_run_is_passed_on_by_its_status() -> None:
    assert refusal(scope(x_ai_lost="@once_more"), NotReady("Triton does not answer")) == (503, {})


def test_a_task_of_other_nodes_names_the_tasks() -> None:
    error = NotHere("emotion is switched off", ["emotion"])
    assert refusal(scope(x_ai_elsewhere="@elsewhere", x_ai_lost="@once_more"), error) == (
        404,
        {"x-accel-redirect": "@elsewhere", "x-ai-tasks": "emotion"},
    )
