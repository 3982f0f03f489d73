"""Hosts that are out of reach: what the state has on them is declared again exactly as it is there.

So an update neither changes nor deletes it, and the rest of the program sees only hosts that can be reached.
"""

from collections.abc import Iterator
from typing import Any

import pulumi

from infra import names
from infra.program import aliases
from infra.program.host import label_of
from infra.stack import Stack
from infra.stack.hosts import machine_of
from infra.update.prepare import Away

State = dict[str, Any]

# The provider computes the digest of the build's folder after the engine has ignored all changes, so it would
# build a new version of the service on the host that is away. Without a declaration, the engine deletes the
# resource from the state, and the provider leaves the image alone.
_FORGOTTEN = ("docker:index/image:Image",)


def keep(stack: Stack, away: Away, fleet: pulumi.Resource) -> None:
    """Declares the resources that the state has on the hosts that are `away`, in the fleet's component."""
    owners = set(_owners(stack, away))
    resources: dict[str, State] = {each["urn"]: each for each in away.resources if not each.get("delete")}
    declared: dict[str, pulumi.Resource] = {}

    def declare(urn: str) -> pulumi.Resource | None:
        entry = resources.get(urn)
        if entry is None or entry["type"] == "pulumi:pulumi:Stack":
            return None
        if entry["type"] == fleet.pulumi_resource_type:
            return fleet
        if urn not in declared:
            declared[urn] = _declare(entry, resources, declared, declare(entry.get("parent", "")))
        return declared[urn]

    # The state is in the order of creation: a resource comes after all that it depends on.
    for urn, entry in resources.items():
        if (
            entry["custom"]
            and entry["type"] not in _FORGOTTEN
            and any(owner in owners for owner in _lineage(entry, resources))
        ):
            declare(urn)


def _declare(
    entry: State,
    resources: dict[str, State],
    declared: dict[str, pulumi.Resource],
    parent: pulumi.Resource | None,
) -> pulumi.Resource:
    kind, name = entry["type"], entry["urn"].split("::", 3)[3]
    if not entry["custom"]:
        return pulumi.ComponentResource(kind, name, None, pulumi.ResourceOptions(parent=parent))
    provider = entry.get("provider", "").rpartition("::")[0]
    is_default = provider in resources and provider not in declared
    options = pulumi.ResourceOptions(
        parent=parent,
        provider=declared.get(provider),  # type: ignore[arg-type]
        # A default provider is found by its version.
        version=(resources[provider] if is_default else entry).get("inputs", {}).get("version")
        if is_default or kind.startswith("pulumi:providers:")
        else None,
        depends_on=[declared[urn] for urn in entry.get("dependencies", []) if urn in declared],
        protect=entry.get("protect"),
        ignore_changes=["*"],
    )
    if kind.startswith("pulumi:providers:"):
        return pulumi.ProviderResource(kind.rpartition(":")[2], name, {}, options)
    return pulumi.CustomResource(kind, name, {}, options)


def _lineage(entry: State, resources: dict[str, State]) -> Iterator[tuple[str, str, str]]:
    """The type and name of each component above a resource, and the machine in the resource's own name."""
    machine = entry["urn"].split("::", 3)[3].partition("@")[2]
    above = resources.get(entry.get("parent", ""))
    while above is not None:
        yield above["type"], above["urn"].split("::", 3)[3], machine
        above = resources.get(above.get("parent", ""))


def _owners(stack: Stack, away: Away) -> Iterator[tuple[str, str, str]]:
    """What `_lineage` yields for the resources on the hosts that are `away`."""
    for host in away.hosts:
        yield "gpu-inference:index:Host", label_of(host), label_of(host)
        yield "gpu-inference:index:Host", aliases.label(host), ""
        yield "gpu-inference:index:Monitoring", names.MONITORING, machine_of(host)
        for node in stack.nodes:
            if node.host == host:
                for component in ("PreparedNode", "Node"):
                    yield f"gpu-inference:index:{component}", node.name, machine_of(host)
                yield f"gpu-inference:at-{aliases.machine(host)}:Node", node.name, ""
        for gateway in stack.gateway.each:
            if gateway.host == host:
                # Also the name that it had while it was the only gateway.
                for name in {gateway.name, "gateway"}:
                    yield "gpu-inference:index:Gateway", name, machine_of(host)
                yield f"gpu-inference:at-{aliases.machine(host)}:Gateway", "gateway", ""
