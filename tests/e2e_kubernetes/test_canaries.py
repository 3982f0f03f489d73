"""Bad changes of a pool, each in its own way: each stops at the canary, and the pods of before run again.

Needs a cluster with running kubelets, as test_pods.py does.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterator

import pytest

from infra.kubernetes import labels
from tests.e2e_kubernetes.running import Running, missing, running
from tests.e2e_kubernetes.test_pulumi import changed, provider

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(missing()), reason=f"not set: {', '.join(missing())}"),
    pytest.mark.skipif(not provider(), reason="no Pulumi CLI with the provider kubernetes"),
]

#: The recording of the trial is longer than those of the clients, and of the startup probe.
_CHECK = "        if not np.isfinite(audio).all():\n"
_BROKEN = """        if audio.shape[-1] > 32000:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError("broken by the test"))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("canaries")) as made:
        made.config["rollout"] |= {"soakSeconds": 20, "judge": {"requests": 10}}
        made.change()
        yield made


def other_models(site: Running) -> None:
    """A folder of models, one of which fails at its work."""
    folder = site.models / "bad"
    shutil.copytree(site.models / "triton", folder, dirs_exist_ok=True)
    file = folder / "emotion" / "1" / "model.py"
    good = (site.models / "triton" / "emotion" / "1" / "model.py").read_text()
    assert good.count(_CHECK) == 1
    file.write_text(good.replace(_CHECK, f"{_BROKEN}{_CHECK}"))
    site.config["models"] |= {"source": "claim://models/bad", "path": str(folder)}


def a_setting_that_ends_the_service(site: Running) -> None:
    site.config["service"]["env"] = {"SERVER__WORKERS": "many"}


def an_image_that_nobody_has(site: Running) -> None:
    site.config["service"]["image"] = "registry.example.com/gpu/service:9"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (other_models, "emotion: answers 500"),
        (a_setting_that_ends_the_service, "which ended 3 times"),
        (an_image_that_nobody_has, "registry.example.com/gpu/service:9"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_bad_change_stops_at_the_canary_and_costs_no_request(
    site: Running, change: Callable[[Running], None], said: str
) -> None:
    good = copy.deepcopy(site.config)
    before = revisions(site)
    change(site)
    with site.load():
        update = site.up()
    print(f"up took {update.seconds:.0f} s\n{update.diagnostics}")
    assert update.returncode != 0
    assert said in update.diagnostics, update.diagnostics
    assert "pods-l4-canary: runs again what was deployed before" in update.diagnostics
    assert "l4-deployment" not in changed(update), "only the canary has changed"
    assert revisions(site) == before
    assert len(site.ready("l4")) == 2

    # The stack file of before is deployed again, without another start of a pod.
    pods = {each["metadata"]["uid"] for each in site.pods("l4")}
    site.config = good
    site.change()
    assert {each["metadata"]["uid"] for each in site.pods("l4")} == pods
    assert site.change().steps == {}


def test_the_same_bad_change_is_judged_again(site: Running) -> None:
    good = copy.deepcopy(site.config)
    a_setting_that_ends_the_service(site)
    for _ in range(2):
        update = site.up()
        assert "which ended 3 times" in update.diagnostics, update.diagnostics
    site.config = good
    site.change()


def test_a_good_change_reaches_the_canary_first(site: Running) -> None:
    site.config["service"]["env"] = {"E2E_MARK": "1"}
    with site.load():
        update = site.change()
    assert {"l4-canary-good-configmap", "l4-good-configmap"} <= changed(update)
    [revision] = set(revisions(site).values())
    began = {
        pod["metadata"]["labels"][labels.TRACK]: pod["metadata"]["creationTimestamp"]
        for pod in site.ready("l4")
    }
    assert revision
    assert began[labels.CANARY] < began[labels.STABLE]


def revisions(site: Running) -> dict[str, str]:
    """The template of which the pods of each of the pool's Deployments are."""
    found = {
        pod["metadata"]["labels"][labels.TRACK]: pod["metadata"]["annotations"][labels.REVISION]
        for pod in site.pods("l4")
    }
    return dict(sorted(found.items()))
