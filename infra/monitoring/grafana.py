"""The files of a stack's Grafana: its settings, the way to Prometheus, and the dashboards."""

import yaml

from infra import names
from infra.monitoring.dashboards import dashboards
from infra.stack import Monitoring

FILE, PASSWORD = "grafana.ini", "password"
PROVISIONING, DASHBOARDS = "provisioning", "dashboards"


def files(monitoring: Monitoring, folder: str) -> dict[str, str]:
    """The files by name; `folder` is the one in which Grafana finds them."""
    grafana = monitoring.grafana
    password = grafana.password if grafana is not None else None
    found = {
        FILE: _settings(folder, with_password=password is not None),
        f"{PROVISIONING}/datasources/fleet.yml": _datasource(monitoring.prometheus.port),
        f"{PROVISIONING}/dashboards/fleet.yml": _provider(folder),
        **{f"{DASHBOARDS}/{name}": text for name, text in dashboards().items()},
    }
    if password is not None:
        found[PASSWORD] = password.get_secret_value()
    return found


def _settings(folder: str, *, with_password: bool) -> str:
    login = (
        f"admin_password = $__file{{{folder}/{PASSWORD}}}"
        if with_password
        # Nobody can log in, so the password that Grafana makes up by itself opens nothing.
        else "disable_initial_admin_creation = true"
    )
    others = "" if with_password else _EVERYBODY
    return f"""\
[security]
{login}
[users]
allow_sign_up = false
{others}[log]
mode = console
# Nothing leaves the machine.
[analytics]
reporting_enabled = false
check_for_updates = false
check_for_plugin_updates = false
[news]
news_feed_enabled = false
[plugins]
preinstall_disabled = true
plugin_admin_enabled = false
[snapshots]
external_enabled = false
"""


_EVERYBODY = """\
[auth]
disable_login_form = true
[auth.basic]
enabled = false
[auth.anonymous]
enabled = true
org_role = Viewer
"""


def _datasource(port: int) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": 1,
            "datasources": [
                {
                    "name": "Prometheus",
                    "type": "prometheus",
                    "uid": "prometheus",
                    "access": "proxy",
                    "url": f"http://{names.PROMETHEUS}:{port}",
                    "isDefault": True,
                    "editable": False,
                }
            ],
        },
        sort_keys=False,
    )


def _provider(folder: str) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": 1,
            "providers": [
                {
                    "name": "fleet",
                    "folder": "Fleet",
                    "type": "file",
                    "allowUiUpdates": False,
                    "options": {"path": f"{folder}/{DASHBOARDS}"},
                }
            ],
        },
        sort_keys=False,
    )
