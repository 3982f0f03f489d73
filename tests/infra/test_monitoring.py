"""What watches a fleet, as it is declared; without an engine."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from tests.infra.declared import Fleet, declare

pytestmark = pytest.mark.fast

HOSTS = ["ssh://root@192.168.7.11", "ssh://root@192.168.7.12"]
KEY = "a-key-of-the-test"
PARTS = ["prometheus", "alertmanager", "grafana"]


def config(**more: Any) -> dict[str, Any]:
    nodes = [{"name": f"gpu-{number}", "host": host} for number, host in enumerate(HOSTS, start=1)]
    return {"nodes": nodes, **more}


def files(fleet: Fleet, part: str) -> dict[str, str]:
    return dict(fleet[f"{part}-config"].declaration["files"])


def scraped(fleet: Fleet) -> dict[str, list[str]]:
    made = yaml.safe_load(files(fleet, "prometheus")["prometheus.yml"])
    return {
        job["job_name"]: [each for group in job["static_configs"] for each in group["targets"]]
        for job in made["scrape_configs"]
    }


def test_without_the_key_a_stack_declares_nothing_of_it_and_with_it_all_else_stays() -> None:
    without, watched = declare(config()), declare(config(monitoring={}))
    assert not [name for name in without.resources if "monitoring" in name or "exporter" in name]
    assert "monitoring" not in without.outputs
    for name, each in without.resources.items():
        # The console learns where the hour before its start is.
        assert watched[name].inputs == each.inputs or name == "gateway-config", name
    assert set(PARTS) < watched.resources.keys() - without.resources.keys()


def test_the_containers_have_least_privilege_and_are_open_on_the_loopback_address_alone() -> None:
    fleet = declare(config(monitoring={}))
    for part in PARTS:
        given = fleet[part].inputs
        assert given["readOnly"] and given["securityOpts"] == ["no-new-privileges:true"]
        assert given["capabilities"] == {"drops": ["ALL"]} and given["memory"]
        assert [port["ip"] for port in given["ports"]] == ["127.0.0.1"]
        assert fleet[f"{part}-ready"].declaration["pids"] > 0
        assert "gateway-answers" in fleet.after(part)
    for name in ("host-exporter@192.168.7.11", "host-exporter@192.168.7.12"):
        given = fleet[name].inputs
        assert given["user"] == "65534:65534" and given["readOnly"]
        assert given["ports"] == []
    assert "--web.listen-address=192.168.7.12:9100" in fleet["host-exporter@192.168.7.12"].inputs["command"]
    assert "DCGM_EXPORTER_LISTEN=192.168.7.11:9400" in fleet["gpu-exporter@192.168.7.11"].inputs["envs"]


def test_every_target_is_read_where_it_is_open() -> None:
    assert scraped(declare(config(monitoring={}))) == {
        "fleet-gateway": ["gateway:8080"],
        "fleet-node": ["192.168.7.11:8800", "192.168.7.12:8800"],
        "fleet-host": ["192.168.7.11:9100", "192.168.7.12:9100"],
        "fleet-gpu": ["192.168.7.11:9400", "192.168.7.12:9400"],
    }
    fleet = declare(config(monitoring={}))
    networks = [each["name"] for each in fleet["prometheus"].inputs["networksAdvanced"]]
    assert networks == ["prod-monitoring", "prod-gateway"]


def test_a_host_of_its_own_reaches_the_gateway_as_clients_do() -> None:
    fleet = declare(config(monitoring={"host": "ssh://root@192.168.7.20"}))
    assert scraped(fleet)["fleet-gateway"] == ["192.168.7.11:8080"]
    assert scraped(fleet)["fleet-host"][-1] == "192.168.7.20:9100"
    assert [each["name"] for each in fleet["prometheus"].inputs["networksAdvanced"]] == ["prod-monitoring"]
    assert fleet["prometheus"].urn.endswith("prometheus@192.168.7.20")


def test_no_exporter_is_open_at_a_public_address_unless_the_stack_says_so() -> None:
    public = config(monitoring={})
    public["nodes"] = [{"name": "gpu-1", "host": "ssh://root@93.184.216.34"}, HOSTS[1]]
    fleet = declare(public)
    # Beside Prometheus it has no port of the host.
    assert "networkMode" not in fleet["host-exporter@93.184.216.34"].inputs
    assert scraped(fleet)["fleet-host"] == ["host-exporter:9100", "192.168.7.12:9100"]
    elsewhere = {**public, "gateway": {"host": "ssh://root@192.168.7.1"}}
    assert scraped(declare(elsewhere))["fleet-host"] == ["192.168.7.12:9100", "192.168.7.1:9100"]
    opened = {**elsewhere, "monitoring": {"exporters": {"hosts": True, "gpus": False}}}
    assert "93.184.216.34:9100" in scraped(declare(opened))["fleet-host"]


def test_exporters_that_are_there_already_are_read_and_not_started() -> None:
    fleet = declare(config(monitoring={"exporters": {"hosts": "existing", "gpus": False}}))
    assert scraped(fleet)["fleet-host"] == ["192.168.7.11:9100", "192.168.7.12:9100"]
    assert not [name for name in fleet.resources if "exporter" in name]


def test_parts_can_be_left_out() -> None:
    given = {"alertmanager": False, "grafana": False, "exporters": {"hosts": False, "gpus": False}}
    fleet = declare(config(monitoring=given))
    assert "alertmanager" not in fleet and "grafana" not in fleet
    assert scraped(fleet).keys() == {"fleet-gateway", "fleet-node"}
    assert "alerting" not in files(fleet, "prometheus")["prometheus.yml"]


def test_nodes_with_tls_are_read_with_a_certificate_of_the_stacks_authority() -> None:
    fleet = declare(config(monitoring={}, tls={"nodes": True}))
    assert "BEGIN CERTIFICATE" in files(fleet, "prometheus")["client.pem"]
    assert scraped(fleet)["fleet-node"] == ["192.168.7.11:8843", "192.168.7.12:8843"]
    assert "stdin" in fleet["prometheus-config"].secrets
    plain = declare(config(monitoring={}))
    assert "client.key" not in files(plain, "prometheus") and not plain["prometheus-config"].secrets


def test_secrets_are_in_files_alone_and_secret() -> None:
    given = {
        "alertmanager": {
            "webhook": "https://hooks.example.com/secret-1",
            "email": {
                "to": "ops@example.com",
                "from": "fleet@example.com",
                "smarthost": "mail.example.com:587",
                "username": "fleet",
                "password": "secret-2",
            },
        },
        "grafana": {"bind": "192.168.7.11", "password": "secret-three"},
    }
    fleet = declare(config(monitoring=given, apiKeys=[KEY]))
    secrets = {
        "prometheus": (KEY,),
        "alertmanager": ("secret-1", "secret-2"),
        "grafana": ("secret-three",),
    }
    for part, texts in secrets.items():
        assert fleet[f"{part}-config"].secrets == {"stdin"}
        for text in texts:
            assert text in json.dumps(fleet[f"{part}-config"].inputs)
            for name in (part, f"{part}-ready", f"{part}-folder"):
                assert text not in json.dumps(fleet[name].inputs)
    assert KEY not in files(fleet, "prometheus")["prometheus.yml"]
    assert not any("secret-" in told for told in fleet.told)


def test_the_consoles_password_opens_the_gateway_in_place_of_a_key() -> None:
    gateway = {"console": {"enabled": True, "password": "a-password"}}
    assert (
        files(declare(config(monitoring={}, apiKeys=[KEY], gateway=gateway)), "prometheus")["gateway-key"]
        == "a-password"
    )


def test_a_configuration_that_changes_replaces_no_container() -> None:
    before, after = declare(config(monitoring={})), declare(config(monitoring={}, apiKeys=[KEY]))
    for part in PARTS:
        given = [{**each[part].inputs, "user": ""} for each in (before, after)]
        assert given[0] == given[1]
    assert before["prometheus-config"].inputs != after["prometheus-config"].inputs


def test_the_output_tells_how_to_reach_it() -> None:
    told = declare(config(monitoring={})).outputs["monitoring"]
    assert told["prometheus"] == "http://127.0.0.1:9090"
    assert told["reach"].startswith("ssh -N -L 9090:127.0.0.1:9090 ")
    assert told["reach"].endswith(" root@192.168.7.11")


def test_a_prometheus_that_is_there_already_has_nothing_started_for_it() -> None:
    fleet = declare(config(monitoring={"existing": "https://prometheus.example.com"}))
    assert fleet.resources.keys() == declare(config()).resources.keys()
    assert fleet.outputs["monitoring"] == {"prometheus": "https://prometheus.example.com"}
    assert fleet.outputs["prometheus"]["nodes"]


def test_on_this_computers_docker_nodes_and_host_are_reached_from_inside_the_container() -> None:
    fleet = declare({"nodes": [{"name": "gpu-1", "host": "unix:///var/run/docker.sock"}], "monitoring": {}})
    assert scraped(fleet)["fleet-node"] == ["host.docker.internal:8800"]
    assert scraped(fleet)["fleet-host"] == ["host-exporter:9100"]


@pytest.mark.parametrize(
    ("monitoring", "url"),
    [
        ({}, "http://prometheus:9090"),
        (
            {"host": HOSTS[1], "prometheus": {"bind": "192.168.7.12", "port": 9091}},
            "http://192.168.7.12:9091",
        ),
        ({"host": HOSTS[1]}, None),
        ({"existing": "https://prometheus.example.com/p"}, "https://prometheus.example.com/p"),
        (None, None),
    ],
)
def test_the_console_learns_where_it_reaches_prometheus(monitoring: Any, url: str | None) -> None:
    more = {} if monitoring is None else {"monitoring": monitoring}
    settings = json.loads(declare(config(**more))["gateway-config"].declaration["files"]["settings.json"])
    assert settings.get("prometheus") == url
