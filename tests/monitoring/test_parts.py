"""The files of the stack's own Prometheus, Alertmanager and Grafana, read by the programs themselves."""

from __future__ import annotations

import configparser
import datetime
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.certificates import make_authority, prometheus_identity
from infra.monitoring.parts import Part, parts
from infra.stack import parse

pytestmark = pytest.mark.fast

NODES = [{"name": "gpu-1", "host": "ssh://root@192.168.7.11"}, "ssh://root@192.0.2.12"]
EMAIL = {"to": "ops@example.com", "from": "fleet@example.com", "smarthost": "mail.example.com:587"}


def made(folder: Path, name: str, **config: Any) -> tuple[Part, Path]:
    """One part of the monitoring of a stack, and the folder with its files."""
    stack = parse({"nodes": NODES, "monitoring": {}, **config}, "prod")
    client = None
    if stack.node_tls:
        now = datetime.datetime.now(datetime.UTC)
        client = prometheus_identity(make_authority(), "prod", 90, now)
    [part] = [each for each in parts(stack, client) if each.name == name]
    for path, text in part.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return part, folder


def accepted(part: Part, folder: Path) -> None:
    if shutil.which(part.check[0]) is None:
        pytest.skip(f"{part.check[0]} is missing: tests/install.sh installs it")
    done = subprocess.run(part.check, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"tls": {"nodes": True}, "apiKeys": ["a-key-of-the-test"]},
        {"gateway": {"hosts": ["ssh://root@192.168.7.1", "ssh://root@192.168.7.2"]}},
        {"gateway": {"tls": {"certificate": "/etc/a.pem", "key": "/etc/b.pem"}}},
        {"monitoring": {"alertmanager": False, "exporters": {"hosts": True, "gpus": False}}},
    ],
)
def test_promtool_accepts_what_a_stack_gives_prometheus(tmp_path: Path, config: dict[str, Any]) -> None:
    accepted(*made(tmp_path, "prometheus", **config))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"webhook": "https://hooks.example.com/a?b=c#d"},
        {"email": EMAIL},
        {"webhook": "http://192.168.7.9", "email": {**EMAIL, "username": "a", "password": 'it\'s: "#1"'}},
    ],
)
def test_amtool_accepts_what_a_stack_gives_alertmanager(tmp_path: Path, settings: dict[str, Any]) -> None:
    accepted(*made(tmp_path, "alertmanager", monitoring={"alertmanager": settings}))


def test_grafana_gets_its_datasource_its_dashboards_and_no_way_to_change_them(tmp_path: Path) -> None:
    part, folder = made(tmp_path, "grafana")
    [source] = yaml.safe_load((folder / "provisioning/datasources/fleet.yml").read_text())["datasources"]
    assert (source["url"], source["uid"]) == ("http://prometheus:9090", "prometheus")
    [provider] = yaml.safe_load((folder / "provisioning/dashboards/fleet.yml").read_text())["providers"]
    assert provider["options"]["path"] == "/etc/fleet/current/dashboards"
    settings = configparser.ConfigParser(interpolation=None)
    settings.read_string(part.files["grafana.ini"])
    assert settings["auth.anonymous"]["org_role"] == "Viewer"
    assert settings["auth"]["disable_login_form"] == "true"


def test_with_a_password_grafana_lets_only_admin_in(tmp_path: Path) -> None:
    part, folder = made(tmp_path, "grafana", monitoring={"grafana": {"password": "a-password"}})
    settings = configparser.ConfigParser(interpolation=None)
    settings.read_string(part.files["grafana.ini"])
    assert "auth.anonymous" not in settings
    assert settings["security"]["admin_password"] == "$__file{/etc/fleet/current/password}"
    assert (folder / "password").read_text() == "a-password"
