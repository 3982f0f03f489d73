"""New versions of the service that are bad, each in its own way. Each stops at the canary and is rolled back.
No request fails, because a second node serves."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import httpx2
import pytest

from tests.e2e.deployment import Site
from tests.e2e.lab.images import PROJECT
from tests.e2e.lab.load import load, success

pytestmark = pytest.mark.long

RATE = 20  # requests a second
READY_SECONDS = 30
_INFER = "        await self.offer.check_kind(role)\n        task = role.task\n"
_EMOTION = "class EmotionResult(msgspec.Struct, frozen=True, omit_defaults=True"
_HEARD = "        return replace(heard, transcript=self.offer.described(heard.transcript, role))\n"
_MAIN = "def main() -> int:\n"


@dataclass(frozen=True)
class Fault:
    """A text in a file of the service, its replacement in the bad version, and what `up` says of that."""

    file: str
    old: str
    new: str
    said: str


FAULTS = {
    "answers 503 to every request": Fault(
        "inference_service/engine.py",
        _INFER,
        f"        raise NotReady('broken by the test')\n{_INFER}",
        "emotion: answers 503 broken by the test",
    ),
    # The recording of the trial is longer, so only the requests of clients show this fault.
    "answers 503 to its clients only": Fault(
        "inference_service/engine.py",
        _INFER,
        "        if audio is not None and audio.seconds == 1:\n"
        f"            raise NotReady('broken by the test')\n{_INFER}",
        "requests failed; on the nodes that have not changed 0 of",
    ),
    "answers in a wrong shape": Fault(
        "inference_service/tasks.py",
        _EMOTION,
        f'{_EMOTION}, rename={{"emotions": "feelings"}}',
        "emotion: its answer has no valid `emotions`",
    ),
    "answers with wrong words": Fault(
        "inference_service/engine.py",
        _HEARD,
        "        from msgspec.structs import replace as changed\n"
        "        wrong = changed(heard.transcript, text='nothing of this was ever spoken')\n"
        "        return replace(heard, transcript=self.offer.described(wrong, role))\n",
        "0% of the words agree",
    ),
    "never starts": Fault(
        "inference_service/__main__.py",
        _MAIN,
        f"{_MAIN}    __import__('time').sleep(3600)\n",
        f"is not healthy after {READY_SECONDS} s",
    ),
    "crashes when it starts": Fault(
        "inference_service/__main__.py",
        _MAIN,
        f"{_MAIN}    raise ImportError('broken by the test')\n",
        "e2e-gpu-1-service ends again and again",
    ),
}


@pytest.fixture(scope="module")
def judged(deployed: Site) -> Iterator[Site]:
    """The site with the judgement turned on; at the end in its first state, which heals the bad canaries."""
    deployed.settle()
    deployed.config["rollout"] = {
        "readyTimeoutSeconds": READY_SECONDS,
        "soakSeconds": 30,
        "judge": {"requests": 10},
    }
    yield deployed
    deployed.settle()
    assert all(deployed.healthy(host) for host in deployed.gpu_hosts())
    assert deployed.up().check().steps == {}


@pytest.mark.parametrize("name", FAULTS)
def test_a_bad_version_of_the_service_stops_at_the_canary_and_costs_no_request(
    judged: Site, name: str, request: pytest.FixtureRequest
) -> None:
    fault = FAULTS[name]
    shipped = (PROJECT / fault.file).read_text()
    assert shipped.count(fault.old) == 1
    before = judged.containers()
    first = judged.fleet.hosts["gpu-1"]
    ran = _image(judged)

    code = judged.program.project / fault.file
    request.addfinalizer(lambda: shutil.copy2(PROJECT / fault.file, code))
    code.write_text(shipped.replace(fault.old, fault.new))
    misshapen: list[str] = []

    def check(answer: httpx2.Response) -> str | None:
        if answer.status_code == 200 and "emotions" not in answer.json()["data"]:
            misshapen.append(answer.text)
        return success(answer)

    with load(judged.request, rate=RATE, check=check) as seen:
        update = judged.up()
    print(f"a canary that {name}: up took {update.seconds:.0f} s; {seen.summary()}")
    print(f"answers of a wrong shape to clients: {len(misshapen)} of {len(seen.outcomes)}")

    assert update.returncode != 0
    # What was tried, why it failed, and what runs now.
    assert "node gpu-1" in update.diagnostics
    assert fault.said in update.diagnostics, update.diagnostics
    assert "node gpu-1 runs again what was deployed before" in update.diagnostics, update.diagnostics
    others = {key: identity for key, identity in before.items() if key[0] != "gpu-1"}
    after = judged.containers()
    assert {key: after.get(key) for key in others} == others, "only the canary has changed"
    assert _image(judged) == ran
    for route, field in (("asr", "text"), ("emotion", "emotions")):
        assert field in judged.ask(route, url=f"http://{first.address}:8800")
    assert not seen.failures, seen.summary()


def _image(site: Site) -> str:
    """The image of the canary's service."""
    [described] = json.loads(site.fleet.hosts["gpu-1"].docker("inspect", "e2e-gpu-1-service").stdout)
    image = str(described["Config"]["Image"])
    assert re.fullmatch(r"gpu-inference/service:\w+", image), image
    return image
