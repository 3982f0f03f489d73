"""What somebody changed on a host in what updates wrote: the doctor finds it, and its remedy repairs it.

The remedies are run as the doctor prints them, without a refresh and without a target.
"""

from __future__ import annotations

import pytest

from tests.e2e.deployment import Site
from tests.e2e.lab.load import load
from tests.e2e.test_8_doctor import doctor, run_remedy

_MODELS = "/opt/gpu-inference/e2e/gpu-1/models"
NGINX = "/opt/gpu-inference/e2e/gateway/current/nginx.conf"


def test_what_somebody_changed_is_found_shown_and_repaired(site: Site) -> None:
    host, gateway = site.gpu_hosts()[0], site.gateway
    before = site.containers()
    text = gateway.run("cat", NGINX).stdout
    links = {
        model: host.run("readlink", f"{_MODELS}/repository/{model}").stdout for model in ("asr", "emotion")
    }
    file = host.run("readlink", "-f", f"{_MODELS}/repository/asr/1/model.py").stdout.strip()
    content = host.run("cat", file).stdout

    gateway.run("sh", "-c", f"sed -i 's/least_conn;/random;/' {NGINX}")
    # A link to nothing would make the node fail, and its containers would be replaced.
    host.run("sh", "-c", f"cd {_MODELS} && cp -r repository/emotion/. store/mine")
    host.run("ln", "-sfn", "../store/mine", f"{_MODELS}/repository/emotion")
    # The same size, and the former time of its content.
    host.run("sh", "-c", f"touch -r {file} /tmp/t; sed -i '1s/./X/' {file}; touch -r /tmp/t {file}")

    report = doctor(site)
    planted = {"gpu-1: model copies", "gateway: nginx configuration"}
    assert planted <= set(report.wrong), report.text
    found = report.wrong["gpu-1: model copies"]
    assert "model asr: 1/model.py is not as it was copied" in found["seen"]
    assert "model emotion: its link leads to ../store/mine" in found["seen"]
    assert host.address in found["seen"]

    previewed = site.preview().check()
    steps = {name.rpartition("::")[2].partition("@")[0] for name in previewed.steps}
    assert steps == {"gpu-1-model-asr", "gpu-1-models-in-use", "gateway-config"}, previewed.steps
    assert set(previewed.steps.values()) == {"update"}
    assert "model asr: 1/model.py is not as it was copied" in previewed.diagnostics

    with load(site.request, rate=5) as requests:
        # The hosts have no double of nvidia-smi, which the doctor misses.
        run_remedy(site, found, others=set(report.wrong) - planted)
    assert requests.failures == [], requests.summary()
    assert gateway.run("cat", NGINX).stdout == text
    assert host.run("cat", file).stdout == content
    assert {model: host.run("readlink", f"{_MODELS}/repository/{model}").stdout for model in links} == links
    assert site.containers() == before
    after = doctor(site).wrong
    assert "gpu-1: model copies" not in after and "gateway: nginx configuration" not in after
    assert site.up().check().steps == {}, "the update after the repair changes something"


@pytest.mark.long
def test_a_removed_folder_is_written_again(site: Site) -> None:
    host, gateway = site.gpu_hosts()[0], site.gateway
    host.run("rm", "-rf", _MODELS)
    gateway.run("rm", "-rf", "/opt/gpu-inference/e2e/gateway")
    site.up().check()
    assert site.healthy(host)
    assert site.ask("asr", url=f"http://{host.address}:8800")
    assert site.ask()
    assert doctor(site).wrong.keys().isdisjoint({"gpu-1: model copies", "gateway: nginx configuration"})
    assert site.up().check().steps == {}, "the update after the repair changes something"
