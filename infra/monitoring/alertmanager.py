"""The configuration of a stack's Alertmanager. It has secrets: the webhook's address, the mail's password."""

from typing import Any

import yaml

from infra.stack import Alertmanager

FILE = "alertmanager.yml"
_RECEIVER = "fleet"


def files(settings: Alertmanager) -> dict[str, str]:
    """The file by its name."""
    return {FILE: yaml.safe_dump(configuration(settings), sort_keys=False)}


def configuration(settings: Alertmanager) -> dict[str, Any]:
    """One receiver for all alerts, grouped by what is wrong."""
    receiver: dict[str, Any] = {"name": _RECEIVER}
    if settings.webhook is not None:
        receiver["webhook_configs"] = [{"url": settings.webhook.get_secret_value()}]
    if (email := settings.email) is not None:
        mail: dict[str, Any] = {"to": email.to, "from": email.sender, "smarthost": email.smarthost}
        if email.username is not None and email.password is not None:
            mail |= {"auth_username": email.username, "auth_password": email.password.get_secret_value()}
        receiver["email_configs"] = [{**mail, "send_resolved": True}]
    return {
        "route": {
            "receiver": _RECEIVER,
            "group_by": ["alertname", "stack"],
            "group_wait": "10s",
            "group_interval": "1m",
            "repeat_interval": "4h",
        },
        "receivers": [receiver],
    }
