"""A stack's alerts in its cluster: the rules of hosts, about its own pods, for the Prometheus operator."""

import re
from typing import Any

import yaml

from infra.kubernetes import service
from infra.monitoring import rules
from infra.stack import Stack

#: A group of rules as Prometheus reads it.
Group = dict[str, Any]

#: The metrics of a stack in the rules' expressions.
_METRIC = re.compile(r"\b(up|ai_\w+|nv_\w+)\b(\{)?")
#: Rules about machines. Those of a cluster have rules of their own, of whoever runs it.
_HOSTS = "fleet-hosts"
_GATEWAY_DOWN, _NODE_DOWN, _NO_NODE = "FleetGatewayDown", "FleetNodeDown", "FleetNoNode"
_NODE_UNREAD = "FleetNodeUnread"
#: What Prometheus waits before FleetNodeUnread fires, at the least.
_UNREAD_SECONDS = 120
#: One pod of the gateway that leaves, and finishes its streams, is no outage: another one is there.
_NO_GATEWAY = {
    "expr": 'max by (stack) (up{job="fleet-gateway"}) == 0 or absent(up{job="fleet-gateway"})',
    "annotations": {
        "summary": "Prometheus cannot read any pod of the gateway of {{ $labels.stack }}",
        "description": "`fleet status` tells how many are ready, `fleet doctor --node gateway` the reason.",
    },
}


def groups(stack: Stack, *, gateway: bool) -> list[Group]:
    """The groups of rules. `gateway`: Prometheus reads the gateway; else the rules about it are left out."""
    found: list[Group] = yaml.safe_load(rules.alerts())["groups"]
    made = []
    for group in found:
        kept = [_ours(stack, rule) for rule in group["rules"] if gateway or not _of_gateway(rule)]
        if group["name"] != _HOSTS and kept:
            made.append({"name": group["name"], "rules": [rule for rule in kept if rule is not None]})
    return made


def _of_gateway(rule: dict[str, Any]) -> bool:
    return "ai_gateway_" in rule["expr"] or '"fleet-gateway"' in rule["expr"]


def _ours(stack: Stack, rule: dict[str, Any]) -> dict[str, Any] | None:
    """The rule for this stack's pods alone: one Prometheus may read several stacks, with rules of their own.

    None where it says nothing of a stack like this one.
    """
    name = rule["alert"]
    serving = [pool for pool in stack.pools if not pool.drained]
    asleep = [pool.name for pool in serving if pool.least == 0]
    matchers = f'stack="{stack.name}"'
    if name == _NO_NODE and len(asleep) == len(serving):
        return None
    if name == _NODE_DOWN and asleep:
        # A pool without pods is as it should be.
        matchers += f', node!~"{"|".join(asleep)}"'
    own = {**rule, **(_NO_GATEWAY if name == _GATEWAY_DOWN else {})}
    own["expr"] = _METRIC.sub(lambda found: _selecting(found, matchers), own["expr"].strip())
    if name == _NODE_UNREAD:
        # A pod that ends answers Prometheus no more while it finishes what runs.
        own["for"] = f"{max(_UNREAD_SECONDS, service.grace_seconds(stack))}s"
    # By this label the operator's Alertmanager tells whose an alert is; a sum over pods lacks it.
    own["labels"] = {**rule["labels"], "namespace": stack.kubernetes.namespace}
    return own


def _selecting(found: re.Match[str], matchers: str) -> str:
    return f"{found[1]}{{{matchers}{', ' if found[2] else '}'}"
