"""Runs the Pulumi program without an engine and keeps the resources that it declares."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pulumi
from google.protobuf import json_format
from pulumi.runtime import rpc
from pulumi.runtime.mocks import MockMonitor, MockResourceArgs, Mocks, set_mocks

from infra.certificates import make_authority
from infra.program.fleet import Fleet as FleetComponent
from infra.program.fleet import FleetArgs
from infra.stack import Stack, parse
from infra.update.prepare import Away
from infra.update.written import Written

# What the step that makes a stack's authority prints.
_AUTHORITY = make_authority()
UNKNOWN = rpc.UNKNOWN
# How Pulumi marks a secret on its way to the engine.
_SIGNATURE = "4dabf18193072939515e22adb298388d"
_SECRET = "1b47061264138c4ac30d75fd1eb44270"


@dataclass(frozen=True)
class Resource:
    """One resource as it was declared; `inputs` have their camelCase names and secrets in plain.

    `name` is without the machine, which is in the URN only.
    """

    urn: str
    type: str
    name: str
    parent: str
    inputs: dict[str, Any]
    secrets: frozenset[str]
    in_clear: str
    """The inputs as JSON without the values of secrets: what the state would hold unencrypted."""
    needs: frozenset[str]
    ignore_changes: tuple[str, ...]
    delete_before_replace: bool
    replace_with: tuple[str, ...]
    replace_on_changes: tuple[str, ...]
    provider: str
    aliases: tuple[str, ...]
    hooks: tuple[str, ...]

    @property
    def declaration(self) -> dict[str, Any]:
        """A step's declaration, which it gets on its standard input."""
        return dict(json.loads(self.inputs["stdin"]))


@dataclass
class Fleet:
    """All that a stack declares, by name, and its outputs. Components, by URN, are in `components`."""

    resources: dict[str, Resource] = field(default_factory=dict)
    components: dict[str, tuple[str, str]] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    """The components' outputs as JSON without the values of secrets."""

    def __getitem__(self, name: str) -> Resource:
        return self.resources[name]

    def __contains__(self, name: str) -> bool:
        return name in self.resources

    def of(self, kind: str) -> list[Resource]:
        """The resources whose type ends so, e.g. `:Container`."""
        return [resource for resource in self.resources.values() if resource.type.endswith(kind)]

    @property
    def state(self) -> list[dict[str, Any]]:
        """The resources as a stack's state has them after an update."""
        urns = {resource.name: resource.urn for resource in self.resources.values()}
        components = [
            {"urn": urn, "type": kind, "custom": False, "parent": parent}
            for urn, (kind, parent) in self.components.items()
        ]
        return components + [
            {
                "urn": each.urn,
                "type": each.type,
                "custom": True,
                "id": f"{each.name}-id",
                "parent": each.parent,
                "provider": f"{urns[each.provider]}::id" if each.provider else "",
                "inputs": each.inputs,
                "dependencies": [urns[name] for name in each.needs if name in urns],
            }
            for each in self.resources.values()
        ]

    def after(self, name: str) -> set[str]:
        """The names of all resources that the engine must finish before it changes this one."""
        found: set[str] = set()
        waiting = [name]
        while waiting:
            for needed in self.resources[waiting.pop()].needs - found:
                found.add(needed)
                waiting.append(needed)
        return found


class Engine(Mocks):
    """What every resource is after an update; unless `made`, the authority is as before the first one."""

    def __init__(self, made: bool = True) -> None:
        self._authority = _AUTHORITY if made else UNKNOWN

    def new_resource(self, args: MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        made = {"stdout": self._authority} if args.name == "authority" else {}
        return f"{args.name}-id", {**args.inputs, **made}

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], None]:
        raise AssertionError(f"the program calls {args.token}")


class Monitor(MockMonitor):
    def __init__(self, fleet: Fleet, engine: Engine | None = None) -> None:
        super().__init__(engine or Engine())
        self._fleet = fleet
        self._names: dict[str, str] = {}
        # Pulumi registers resources from several threads at once.
        self._registering = threading.Lock()

    def RegisterResource(self, request: Any) -> Any:
        with self._registering:
            return self._register(request)

    def RegisterResourceOutputs(self, request: Any) -> Any:
        self._fleet.told.append(json.dumps(_without_secrets(json_format.MessageToDict(request.outputs))))
        return super().RegisterResourceOutputs(request)

    def _register(self, request: Any) -> Any:
        urn = self.make_urn(request.parent, request.type, request.name)
        assert urn not in self.resources, f"declared twice: {urn}"
        if not request.custom:
            self._fleet.components[urn] = (request.type, request.parent)
            return super().RegisterResource(request)
        given = json_format.MessageToDict(request.object)
        plain = {key: _plain(value) for key, value in given.items()}
        # A host's own resources have the same names on every host; so have exporters.
        of_host = ":Host::" in request.parent
        on_every_host = of_host or request.name.startswith(("host-exporter", "gpu-exporter"))
        name = request.name if on_every_host else request.name.partition("@")[0]
        if name.startswith("gateway") and name in self._fleet.resources:
            name = request.name  # the resources of another gateway have the same names on another machine
        assert name not in self._fleet.resources, f"another resource has the name {name}"
        self._names[urn] = name
        self._fleet.resources[name] = Resource(
            urn=urn,
            type=request.type,
            name=name,
            parent=request.parent,
            inputs=plain,
            secrets=frozenset(key for key, value in given.items() if _is_secret(value)),
            in_clear=json.dumps(_without_secrets(given)),
            needs=frozenset(self._names[urn] for urn in request.dependencies if urn in self._names),
            ignore_changes=tuple(request.ignoreChanges),
            delete_before_replace=request.deleteBeforeReplace,
            replace_with=tuple(self._names[urn] for urn in request.replace_with),
            replace_on_changes=tuple(request.replaceOnChanges),
            provider=self._names.get(request.provider.rpartition("::")[0], ""),
            aliases=tuple(alias.urn for alias in request.aliases if alias.urn),
            hooks=tuple(request.hooks.before_create),
        )
        return super().RegisterResource(request)


def _is_secret(value: Any) -> bool:
    return isinstance(value, dict) and value.get(_SIGNATURE) == _SECRET


def _without_secrets(value: Any) -> Any:
    if _is_secret(value):
        return "[secret]"
    if isinstance(value, dict):
        return {key: _without_secrets(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_secrets(inner) for inner in value]
    return value


def _plain(value: Any) -> Any:
    if _is_secret(value):
        return _plain(value["value"])
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def declare(
    config: dict[str, Any],
    away: Away | None = None,
    sick: frozenset[str] = frozenset(),
    written: Written | None = None,
    *,
    authority_made: bool = True,
) -> Fleet:
    """The resources of the stack `prod` with these keys, hosts that are `away`, `sick` nodes, and differences
    in what steps wrote.

    Without `authority_made`, the key of the authority is unknown, as in the preview of the first update.
    """
    return declare_loaded(lambda: parse(config, "prod"), away, sick, written, authority_made=authority_made)


def declare_loaded(
    load: Callable[[], Stack],
    away: Away | None = None,
    sick: frozenset[str] = frozenset(),
    written: Written | None = None,
    *,
    authority_made: bool = True,
) -> Fleet:
    """The resources of the stack that `load` gives as a Pulumi program that runs."""
    fleet = Fleet()
    engine = Engine(authority_made)
    set_mocks(engine, project="gpu-inference", stack="prod", preview=True, monitor=Monitor(fleet, engine))

    @pulumi.runtime.test
    def run() -> None:
        component = FleetComponent("prod", FleetArgs(load(), away or Away(), sick, written or Written()))
        fleet.outputs = component.outputs
        for name, value in component.outputs.items():
            pulumi.export(name, value)

    run()
    return fleet
