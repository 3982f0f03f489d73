"""What watches a fleet, on real hosts: a killed node's alert arrives, and nothing stays when the key goes.

The images have Debian's programs under the paths of the upstream images. Grafana and NVIDIA's exporter are
not among them.
"""

from __future__ import annotations

import json
import shutil
import urllib.parse
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.deployment import API_KEY, Site
from tests.e2e.lab.host import Host, wait_until
from tests.e2e.test_8_doctor import doctor, run_remedy
from tests.monitoring.receiver import webhook

#: By image: the programs of Debian's packages, and their names in it.
PROGRAMS = {
    "prometheus": {"prometheus": "prometheus", "promtool": "promtool"},
    "alertmanager": {"prometheus-alertmanager": "alertmanager", "amtool": "amtool"},
    "node-exporter": {"prometheus-node-exporter": "node_exporter"},
}
MISSING = [each for programs in PROGRAMS.values() for each in programs if shutil.which(each) is None]
TEMPLATES = Path("/usr/share/prometheus/alertmanager")
PARTS = ("prometheus", "alertmanager")
FOLDER = "/opt/gpu-inference/e2e/monitoring"

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(bool(MISSING), reason=f"{MISSING} are missing: tests/install.sh installs them"),
]


def image(name: str) -> str:
    return f"e2e/{name}:1"


def build(host: Host, name: str) -> None:
    """Builds an image on a host from the programs of this machine."""
    context = host.root / "contexts" / name
    context.mkdir(parents=True, exist_ok=True)
    for program, inside in PROGRAMS[name].items():
        shutil.copy2(str(shutil.which(program)), context / inside)
    lines = ["FROM base", "COPY . /bin/", f'ENTRYPOINT ["/bin/{next(iter(PROGRAMS[name].values()))}"]']
    if name == "alertmanager":
        # Upstream's program has its templates inside.
        shutil.copytree(TEMPLATES, context / "templates", dirs_exist_ok=True)
        lines.append(f"COPY templates {TEMPLATES}")
    (context / "Dockerfile").write_text("\n".join(lines))
    host.docker("build", "--quiet", "--tag", image(name), f"/contexts/{name}")


def ask(host: Host, query: str) -> list[dict[str, Any]]:
    """The result of a query to Prometheus on its own host; none while it does not answer."""
    url = f"http://127.0.0.1:9090/api/v1/query?query={urllib.parse.quote(query)}"
    done = host.run("curl", "--silent", "--max-time", "5", url, check=False)
    return list(json.loads(done.stdout)["data"]["result"]) if done.returncode == 0 else []


def start(site: Site, **more: Any) -> None:
    """Declares Prometheus and Alertmanager without Grafana, from images that the gateway's host builds."""
    for name in ("prometheus", "alertmanager"):
        build(site.gateway, name)
    site.config["monitoring"] = {
        "prometheus": {"image": image("prometheus")},
        "alertmanager": {"image": image("alertmanager")},
        "grafana": False,
        "exporters": {"hosts": False, "gpus": False},
    } | more


def end(site: Site) -> None:
    """Takes monitoring out of the stack."""
    site.config.pop("monitoring")
    site.up().check()


def test_a_killed_nodes_alert_arrives_and_nothing_stays_without_the_key(site: Site) -> None:
    hosts = [site.gateway, *site.gpu_hosts()]
    for host in hosts:
        # As systemd has it on every host.
        host.run("mount", "--make-rshared", "/")
        build(host, "node-exporter")
    before = site.containers()
    with webhook(str(site.fleet.bridge.subnet[1]), "/secret-hook") as (address, came):
        start(
            site,
            alertmanager={"image": image("alertmanager"), "webhook": address},
            exporters={"gpus": False, "hostImage": image("node-exporter")},
        )
        change = site.change()
        started = {
            *((host.name, "e2e-host-exporter") for host in hosts),
            ("gateway", "e2e-prometheus"),
            ("gateway", "e2e-alertmanager"),
        }
        assert change.touched == started and change.as_previewed()
        again = site.up().check()
        assert again.steps == {}, again.output
        wait_until("all targets are read", lambda: len(ask(site.gateway, "up == 1")) == 6, 60)
        jobs = sorted(each["metric"]["job"] for each in ask(site.gateway, "up == 1"))
        assert jobs == ["fleet-gateway", *["fleet-host"] * 3, *["fleet-node"] * 2]

        # Nobody but their own host reaches them, and no secret is in what Docker shows.
        for port in (9090, 9093):
            url = f"http://{site.gateway.address}:{port}/"
            done = site.gpu_hosts()[0].run("curl", "--silent", "--max-time", "5", url, check=False)
            assert done.returncode != 0, f"port {port} is open"
        for name in ("e2e-prometheus", "e2e-alertmanager"):
            shown = site.gateway.docker("inspect", name).stdout
            assert API_KEY not in shown and "secret-hook" not in shown
            processes = site.gateway.docker("top", name, "-eo", "pid,uid,args").stdout
            users = {line.split()[1] for line in processes.splitlines()[1:]}
            assert users == {"1000"} and API_KEY not in processes, processes
        modes = site.gateway.run("sh", "-c", f"stat -c '%a %u' {FOLDER}/*/configurations/current/*").stdout
        assert set(modes.splitlines()) == {"600 1000"}, modes

        # Another configuration reaches the running Prometheus.
        identity = site.containers()[("gateway", "e2e-prometheus")]
        site.node("gpu-2")["drained"] = True
        site.up().check()
        site.node("gpu-2")["drained"] = False
        site.up().check()
        assert site.containers()[("gateway", "e2e-prometheus")] == identity

        victim = site.fleet.hosts["gpu-2"]
        victim.docker("kill", "e2e-gpu-2-service")
        wait_until("the alert arrives", lambda: ("firing", "FleetNodeDown", "gpu-2") in came, 180)
        assert ("firing", "FleetNodeDown", "gpu-1") not in came
        victim.docker("start", "e2e-gpu-2-service")
        wait_until("the alert ends", lambda: ("resolved", "FleetNodeDown", "gpu-2") in came, 240)

        # A configuration that its program refuses changes nothing.
        site.config["monitoring"]["alertmanager"]["webhook"] = "http://[1"
        failed = site.up()
        assert failed.returncode != 0 and "amtool refuses it" in failed.output, failed.output
        current = site.gateway.run("sh", "-c", f"cat {FOLDER}/alertmanager/configurations/current/*").stdout
        assert address in current
    end(site)
    assert site.containers() == before
    left = site.gateway.run("ls", "-A", FOLDER, check=False)
    assert left.returncode != 0, left.stdout
    assert "e2e-monitoring" not in site.gateway.docker("network", "ls").stdout


def test_a_configuration_that_somebody_changed_is_found_and_repaired(site: Site) -> None:
    """The remedy is run as the doctor prints it: an update without a refresh, which replaces no container."""
    start(site)
    site.up().check()
    gateway, file = site.gateway, f"{FOLDER}/prometheus/configurations/current/alerts.yml"
    started = ("docker", "inspect", "--format", "{{.State.StartedAt}}")
    before, text = site.containers(), gateway.run("cat", file).stdout
    others = doctor(site).wrong.keys()
    assert "monitoring: monitoring files" not in others

    gateway.run("sh", "-c", f"sed -i 's/FleetNodeDown/FleetNodeUp/' {file}")
    gateway.run("docker", "kill", "--signal", "HUP", "e2e-prometheus")
    gateway.run("rm", "-rf", f"{FOLDER}/alertmanager")
    rules = "http://127.0.0.1:9090/api/v1/rules"
    wait_until("the change is in use", lambda: "FleetNodeUp" in gateway.run("curl", "-s", rules).stdout, 20)
    report = doctor(site)
    found = report.wrong["monitoring: monitoring files"]
    assert "prometheus: alerts.yml is not as it was written" in found["seen"], report.text
    assert "alertmanager: its folder is gone" in found["seen"] and gateway.address in found["seen"]

    previewed = site.preview().check()
    steps = {name.rpartition("::")[2].partition("@")[0] for name in previewed.steps}
    assert {"prometheus-config", "alertmanager-config"} <= steps, previewed.steps
    assert steps <= {f"{part}-{step}" for part in PARTS for step in ("config", "ready")}, previewed.steps
    assert "prometheus: alerts.yml is not as it was written" in previewed.diagnostics

    at = gateway.run(*started, "e2e-prometheus").stdout
    run_remedy(site, found, others=others)
    assert gateway.run("cat", file).stdout == text
    wait_until("the rules are back", lambda: "FleetNodeDown" in gateway.run("curl", "-s", rules).stdout, 20)
    # The container that lost its folder sees the new one.
    inside = gateway.docker("exec", "e2e-alertmanager", "cat", "/etc/fleet/current/alertmanager.yml").stdout
    assert "receivers" in inside
    assert site.containers() == before
    assert gateway.run(*started, "e2e-prometheus").stdout == at, "it started again for a file"
    assert site.up().check().steps == {}, "the update after the repair changes something"
    end(site)
