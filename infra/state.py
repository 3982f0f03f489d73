"""What of a stack is there already, from Pulumi's own state."""

from __future__ import annotations

from collections.abc import Iterable

import pulumi


class Deployed:
    """The resources in the stack's state, by type and name."""

    def __init__(self, urns: Iterable[str]) -> None:
        self._known = {self._key(urn) for urn in urns}

    @staticmethod
    def _key(urn: str) -> tuple[str, str]:
        _, _, kinds, name = urn.split("::", 3)
        return kinds.rpartition("$")[2], name

    def has(self, kind: type[pulumi.Resource], name: str) -> bool:
        """Whether a resource of that type and name is in the state."""
        token = getattr(kind, "pulumi_type", None)
        if token is None:
            raise TypeError(f"{kind.__name__} has no Pulumi type")
        return (token, name) in self._known


def read() -> Deployed:
    """The state of the stack that is being updated, as the last update left it."""
    invoked = pulumi.runtime.invoke(
        "pulumi:pulumi:readStackResourceOutputs", {"stackName": pulumi.get_stack()}
    )
    return Deployed(invoked.value["outputs"])
