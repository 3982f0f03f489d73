"""The URNs that resources had before version 0.1.0, so that an update keeps what is deployed.

There, the type of a component named the machine, and the names of resources did not. Remove this module, and
the options that are made with it, in version 0.2.0.
"""

import re

import pulumi

from infra.stack import Host, SshHost

#: The old names of components, from the top, by the new type.
_PARENTS = {
    "PreparedNode": ("Node",),
    "NodeModels": ("Node", "Models"),
    "Node": ("Node",),
    "Gateway": ("Gateway",),
}


def on_host(host: Host, parent: pulumi.Resource, kind: type[pulumi.Resource], name: str) -> str:
    """The old URN of a resource of a node or of the gateway; `name` is without the machine."""
    component = parent.pulumi_resource_type.rpartition(":")[2]
    # What switches a node's models was a child of them, and is the node's now.
    parents = _PARENTS["NodeModels" if name.endswith("-models-in-use") else component]
    return _urn([f"gpu-inference:at-{machine(host)}:{each}" for each in parents], kind, name)


def of_host(kind: type[pulumi.Resource], name: str) -> str:
    """The old URN of a host's provider or image."""
    return _urn(["gpu-inference:index:Host"], kind, name)


def embedded(component: str, kind: type[pulumi.Resource], name: str) -> str:
    """The old URN of an embedded node's or gateway's processes."""
    return _urn([f"gpu-inference:index:{component}"], kind, name)


def label(host: Host) -> str:
    """The old name of a host."""
    return _slug(str(host).split("//")[-1])


def machine(host: Host) -> str:
    """The old name of a host's machine."""
    if isinstance(host, SshHost):
        return _slug(host.address if host.port in (None, 22) else f"{host.address}-{host.port}")
    return label(host)


def _urn(parents: list[str], kind: type[pulumi.Resource], name: str) -> str:
    types = "$".join([*parents, str(kind.pulumi_type)])  # type: ignore[attr-defined]
    return f"urn:pulumi:{pulumi.get_stack()}::{pulumi.get_project()}::{types}::{name}"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
