"""An error names its cause, before or without harm. After the cause is corrected, another `up` converges."""

from __future__ import annotations

import json
import time

import httpx2
import pytest

from tests.e2e.deployment import API_KEY, Site
from tests.e2e.lab.load import load


def test_a_bad_canary_stops_the_update_and_the_others_go_on_serving(site: Site) -> None:
    before = site.containers()
    site.config["rollout"]["readyTimeoutSeconds"] = 15
    site.config["triton"]["shmSize"] = "768m"
    site.config["service"]["config"] = {"ai": {"models": {"emotion": {"model_name": "no-such-model"}}}}
    with load(site.request, rate=20) as seen:
        failed = site.up()
    assert failed.returncode != 0
    assert "gpu-1" in failed.diagnostics
    assert "no-such-model" in failed.diagnostics, "the container's own words are shown"
    untouched = {key: identity for key, identity in site.containers().items() if key[0] != "gpu-1"}
    assert untouched == {key: identity for key, identity in before.items() if key[0] != "gpu-1"}
    assert not seen.failures, seen.summary()

    site.settle()
    assert all(site.healthy(host) for host in site.gpu_hosts())
    assert site.up().check().steps == {}


def test_a_host_that_is_down_is_named_before_anything_changes(site: Site) -> None:
    site.config["service"]["maxConcurrency"] = 47
    before = site.containers()
    site.fleet.hosts["gpu-2"].cut()
    failed = site.up()
    assert failed.returncode != 0
    assert failed.seconds < 100, "the Docker provider waited for the host: it takes 200 s"
    assert "gpu-2" in failed.diagnostics
    assert site.containers() == before


def test_a_port_that_is_taken_is_named_before_anything_changes(site: Site) -> None:
    site.gateway.docker("run", "--detach", "--name", "web", "--publish", "8085:80", "base", "sleep", "1000")
    site.config["gateway"]["http"] = 8085
    before = site.containers()
    try:
        failed = site.up()
        after = site.containers()
    finally:
        site.gateway.docker("rm", "--force", "web")
    assert failed.returncode != 0
    assert "gateway.http: port 8085 is taken by the container web" in failed.diagnostics
    assert after == before


def test_skip_updates_the_rest_and_the_lost_host_catches_up(
    site: Site, request: pytest.FixtureRequest
) -> None:
    lost = site.fleet.hosts["gpu-2"]
    # The node that can be reached is the only one left, and changes with a gap.
    site.config["rollout"] |= {"unreachable": "skip", "minHealthy": 0}
    # A new version, which is built for the hosts that can be reached.
    code = site.program.project / "inference_service" / "__init__.py"
    shipped = code.read_text()
    request.addfinalizer(lambda: code.write_text(shipped))
    code.write_text(f"{shipped}\n# Another version.\n")
    before = site.containers()
    lost.cut()
    began = time.monotonic()
    skipped = site.up().check()
    assert "gpu-2" in skipped.output
    assert time.monotonic() - began < 180, "the Docker provider waited for the host"
    after = site.containers()
    changed = {key for key in before if before[key] != after.get(key)}
    # The console runs in the service's image.
    assert {host for host, name in changed if "console" not in name} == {"gpu-1"}
    with load(site.request, rate=20) as seen:
        time.sleep(2)
    assert not seen.failures, seen.summary()
    lost.restore()
    caught_up = site.up().check()
    assert any("gpu-2" in name for name in caught_up.steps)
    service = next(name for name in lost.containers() if "service" in name)
    assert lost.containers()[service] != before[("gpu-2", service)]
    assert site.up().check().steps == {}


def test_a_gateway_config_that_nginx_rejects_changes_nothing(site: Site) -> None:
    before = site.containers()
    site.config["gateway"]["tls"] = {"certificate": "/etc/ssl/none.pem", "key": "/etc/ssl/none.key"}
    failed = site.up()
    assert failed.returncode != 0
    assert "cannot load certificate" in failed.diagnostics
    assert site.containers() == before
    assert "emotions" in site.ask()
    site.settle()
    assert "emotions" in site.ask()


@pytest.mark.parametrize("kind", ["unknown", "changed"])
def test_a_host_key_that_is_not_the_known_one_stops_the_update(site: Site, kind: str) -> None:
    operator, host = site.fleet.operator, site.fleet.hosts["gpu-2"]
    known = operator.known_hosts.read_text()
    before = site.containers()
    site.config["service"]["maxConcurrency"] = 45
    if kind == "unknown":
        operator.distrust(host.address)
    else:
        operator.trust(host.address, operator.public_key)
    try:
        failed = site.up()
    finally:
        operator.known_hosts.write_text(known)
    assert failed.returncode != 0
    assert "gpu-2" in failed.diagnostics
    assert "host key" in failed.diagnostics.lower()
    assert site.containers() == before


def test_refresh_finds_a_container_removed_by_hand_and_up_puts_it_back(site: Site) -> None:
    host = site.fleet.hosts["gpu-2"]
    service = next(name for name in host.containers() if "service" in name)
    host.docker("rm", "--force", service)
    site.program.refresh().check()
    assert any("gpu-2" in name and op == "create" for name, op in site.preview().check().steps.items())
    site.up().check()
    assert service in host.containers()
    assert site.healthy(host)


def test_secrets_are_in_no_state_preview_log_or_other_container(site: Site) -> None:
    site.config["service"]["maxConcurrency"] = 44
    texts = {"preview": site.preview().output}
    up = site.up().check()
    texts["up"] = up.output + json.dumps([event for event in up.events if "diagnosticEvent" in event])
    texts["state"] = site.program.pulumi("stack", "export", "--stack", site.program.stack).check().output
    texts["config"] = site.program.config_file.read_text()
    for host in site.fleet.hosts.values():
        for name in host.containers(everything=True):
            logs = host.docker("logs", name)
            texts[f"logs of {name} on {host.name}"] = logs.stdout + logs.stderr
            if "service" not in name and "console" not in name:
                texts[f"{name} on {host.name}"] = host.docker("inspect", name).stdout
    assert [where for where, text in texts.items() if API_KEY in text] == []


def test_requests_without_the_key_are_refused(site: Site) -> None:
    request = site.request()
    del request.headers["Authorization"]
    with httpx2.Client(trust_env=False) as client:
        assert client.send(request).status_code == 401
