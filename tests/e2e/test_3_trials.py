"""A canary is judged by its work: a bad one stops the update and is put back to what it ran before."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.deployment import Site
from tests.e2e.lab.images import PROJECT
from tests.e2e.lab.load import load
from tests.e2e.lab.program import Result

RATE = 20  # requests a second
RULE = "model_repository/emotion/1/model.py"
EXECUTE = "        return [self._respond(request) for request in requests]\n"
# The emotion model fails for the second of audio that the clients send, not for the recording of the trial.
FAILS = (
    "        if pb_utils.get_input_tensor_by_name(requests[0], 'audio_input').as_numpy().size == 16000:\n"
    "            raise RuntimeError('broken by the test')\n"
)
SLOW = "        __import__('time').sleep(3)\n"


@pytest.fixture(scope="module")
def judged(deployed: Site) -> Iterator[Site]:
    """The site with the judgement turned on; at the end in its first state, which heals the bad canaries."""
    deployed.settle()
    yield deployed
    shutil.copy2(PROJECT / RULE, deployed.program.project / RULE)
    deployed.settle()
    assert all(deployed.healthy(host) for host in deployed.gpu_hosts())


def changed(site: Site, *, model: str = "", on_failure: str = "rollBack", **service: Any) -> Result:
    """The update of a change of the emotion model's code or of the service's settings."""
    site.config = copy.deepcopy(site.first)
    site.config["rollout"] = {
        "readyTimeoutSeconds": 60,
        "soakSeconds": 30,
        "judge": {"requests": 10},
        "onFailure": on_failure,
    }
    site.config["service"] |= service
    code = (PROJECT / RULE).read_text()
    assert EXECUTE in code
    (site.program.project / RULE).write_text(code.replace(EXECUTE, model + EXECUTE))
    return site.up()


def assert_stopped_at_the_canary(site: Site, update: Result, before: dict[tuple[str, str], str]) -> None:
    assert update.returncode != 0
    assert "node gpu-1" in update.diagnostics
    after = site.containers()
    assert {key: after.get(key) for key in before if key[0] == "gpu-2"} == {
        key: identity for key, identity in before.items() if key[0] == "gpu-2"
    }
    if site.config["rollout"].get("onFailure") == "stop":
        assert "e2e-gpu-1-service" not in site.fleet.hosts["gpu-1"].containers(), "it gets no more traffic"
    else:
        assert "node gpu-1 runs again what was deployed before" in update.diagnostics, update.diagnostics
        assert "emotions" in site.ask(url=f"http://{site.fleet.hosts['gpu-1'].address}:8800")


def test_a_canary_that_is_slow_is_put_back(judged: Site) -> None:
    before = judged.containers()
    with load(judged.request, rate=5) as seen:
        update = changed(judged, model=SLOW)
    assert_stopped_at_the_canary(judged, update, before)
    assert re.search(r"emotion: takes \d", update.diagnostics), update.diagnostics
    assert not seen.failures, seen.summary()


def test_a_canary_whose_clients_fail_is_found_while_it_serves(judged: Site) -> None:
    before = judged.containers()
    with load(judged.request, rate=RATE) as seen:
        update = changed(judged, model=FAILS)
    assert_stopped_at_the_canary(judged, update, before)
    assert "requests failed; on the nodes that have not changed 0 of" in update.diagnostics, (
        update.diagnostics
    )
    assert len(seen.failures) < len(seen.outcomes) / 2, "at most the canary's own share, until it was found"


@pytest.mark.long
def test_a_canary_that_crashes_is_put_back_and_the_next_update_replaces_it(judged: Site) -> None:
    before = judged.containers()
    with load(judged.request, rate=RATE) as seen:
        update = changed(judged, memory="16m")
    assert_stopped_at_the_canary(judged, update, before)
    assert not seen.failures, seen.summary()
    judged.config = copy.deepcopy(judged.first)
    (judged.program.project / RULE).write_text((PROJECT / RULE).read_text())
    judged.up().check()
    service = judged.fleet.hosts["gpu-1"].docker("inspect", "e2e-gpu-1-service").stdout
    assert "gpu-inference.rolled-back" not in service
    assert judged.up().check().steps == {}


def test_a_canary_that_answers_no_recording_costs_no_request(judged: Site) -> None:
    before = judged.containers()
    with load(judged.request, rate=RATE) as seen:
        update = changed(judged, on_failure="stop", config={"ai": {"models": {"asr": {"timeout": 0.01}}}})
    assert_stopped_at_the_canary(judged, update, before)
    assert "asr: answers 504" in update.diagnostics
    assert "its service was stopped, and other nodes serve" in update.diagnostics
    assert not seen.failures, seen.summary()
