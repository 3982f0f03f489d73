"""Reads a stack from Pulumi's configuration or from its file, and reports every mistake at once."""

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from infra import names as names_
from infra.paths import PROJECT as FOLDER
from infra.stack import encrypted, kubernetes_rules, rules
from infra.stack.gateway import Gateway
from infra.stack.hosts import ClusterHost
from infra.stack.kubernetes import Kubernetes
from infra.stack.node import Node
from infra.stack.pools import Pool
from infra.stack.problems import Problem, StackError, from_validation, unknown_key
from infra.stack.section import Section
from infra.stack.shown import shown
from infra.stack.types import Stack

PROJECT = "gpu-inference"


def parse(data: Mapping[str, Any], name: str = "stack", source: str | None = None) -> Stack:
    """The stack that the camelCase keys of `data` declare, with every default filled in.

    Raises StackError with every mistake.
    """
    fields = {str(info.alias): field for field, info in Stack.model_fields.items()}
    problems = [unknown_key("", key, fields) for key in data if key not in fields]

    def valid(kind: Any, value: Any, path: str) -> Any:
        """The valid value; None after adding its problems."""
        try:
            return TypeAdapter(kind).validate_python(value)
        except ValidationError as error:
            model = kind if isinstance(kind, type) and issubclass(kind, Section) else Section
            problems.extend(from_validation(error, model, path))
            return None

    sections: dict[str, Any] = {}
    for key, field in fields.items():
        info = Stack.model_fields[field]
        if field in ("nodes", "gateway"):
            continue
        if key in data:
            sections[field] = valid(info.rebuild_annotation(), data[key], key)
        else:
            sections[field] = info.get_default(call_default_factory=True)

    given = data.get("nodes")
    if given is None:
        problems.append(Problem("nodes", "required: the list of hosts"))
    elif not isinstance(given, list):
        problems.append(Problem("nodes", f"expected a list of nodes, got {shown(given)}"))
    elif not given:
        problems.append(Problem("nodes", "expected at least one node, got an empty list"))
    in_cluster = sections["target"] == "kubernetes"
    # An invalid section is left out, so that its mistakes are reported once and not for every node.
    keys = ("remote",) if in_cluster else ("ports", "remote")
    shared = {key: data[key] for key in keys if key in data and sections[key] is not None}
    filled = [_with_shared(node, shared) for node in given] if isinstance(given, list) else []
    cluster: Kubernetes = sections["kubernetes"] or Kubernetes()

    def declared(path: str, node: Any) -> Any:
        """The valid node or pool. Keys of the other target are left out: they have errors of their own."""
        if isinstance(node, dict) and in_cluster:
            problems.extend(kubernetes_rules.node_keys(path, node))
            node = kubernetes_rules.valid_keys(node)
        elif isinstance(node, dict):
            problems.extend(kubernetes_rules.pool_keys(path, node))
            node = {key: node[key] for key in node if key not in kubernetes_rules.POOL_ONLY}
        return valid(Pool if in_cluster else Node, node, path)

    every = {number: declared(f"nodes[{number}]", node) for number, node in enumerate(filled)}
    found = {number: each for number, each in every.items() if each is not None}
    pools: dict[int, Pool] = found if in_cluster else {}
    nodes: dict[int, Node] = found
    if in_cluster:
        nodes = {number: pool.node(_service(name, pool.name, cluster)) for number, pool in pools.items()}
    if nodes or "gateway" in data:
        gateway = data.get("gateway", {})
        if not in_cluster:
            gateway = _with_gateway_defaults(gateway, list(nodes.values()))
        elif isinstance(gateway, dict):
            own = {key: gateway[key] for key in gateway if f"gateway.{key}" not in kubernetes_rules.SENSELESS}
            gateway = own | {"host": _service(name, names_.GATEWAY, cluster)}
        sections["gateway"] = valid(Gateway, gateway, "gateway")

    # An invalid node may have a name.
    names = {
        number: node["name"]
        for number, node in enumerate(filled)
        if isinstance(node, dict) and isinstance(node.get("name"), str)
    }
    problems += rules.unique_names(names | {number: node.name for number, node in nodes.items()})
    if in_cluster:
        problems += kubernetes_rules.stack_keys(data)
        problems += rules.shared(nodes, sections)
        problems += kubernetes_rules.check(name, pools, sections)
    else:
        problems += rules.check(nodes, sections)
        if "kubernetes" in data:
            problems.append(Problem("kubernetes", "needs target: kubernetes"))
    if problems:
        # In the order of the keys, as somebody reads the file; unknown keys first.
        order = {key: position for position, key in enumerate(fields, start=1)}
        problems.sort(key=lambda problem: order.get(re.split(r"[.\[]", problem.path)[0], 0))
        raise StackError(problems, source or "the stack's configuration")
    stack = Stack.model_construct(nodes=list(nodes.values()), **sections)
    stack._name = name
    stack._pools = tuple(pools.values())
    return stack


def _service(stack: str, part: str, cluster: Kubernetes) -> ClusterHost:
    """The Service of a pool, or of the gateway."""
    return ClusterHost(names_.service(stack, part), cluster.namespace, cluster.cluster_domain)


def load_file(path: str | Path) -> Stack:
    """The stack that `Pulumi.<stack>.yaml` declares, read without Pulumi.

    Encrypted values cannot be read; the keys that hold them are left out and named in `Stack.encrypted`.
    Raises StackError, also when the file cannot be read or is no YAML.
    """
    path = Path(path)
    name = path.stem.removeprefix("Pulumi.")
    own = own_keys(path)
    paths: list[str] = []
    try:
        stack = parse(encrypted.without(own, "", paths), name, str(path))
    except StackError as error:
        problems = [*encrypted.refusals(paths), *(_reworded(problem, paths) for problem in error.problems)]
        # A missing key and an encrypted one that must not be are one mistake.
        unlike = {problem.path: problem for problem in reversed(problems)}
        raise StackError(reversed(unlike.values()), str(path)) from None
    if refused := list(encrypted.refusals(paths)):
        raise StackError(refused, str(path))
    stack._encrypted = tuple(paths)
    return stack


def own_keys(path: Path) -> dict[str, Any]:
    """The keys of this project in a stack file, without `gpu-inference:`. Raises StackError."""
    try:
        with path.open(encoding="utf-8") as file:
            document = yaml.load(file, _Loader)
        # Refuses a document that contains itself (YAML aliases).
        json.dumps(document, skipkeys=True, default=str)
    except OSError as error:
        raise StackError([Problem("", f"cannot be read: {error.strerror}")], str(path)) from error
    # ValueError: bytes that are not UTF-8, impossible dates, numbers with too many digits for Python.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise StackError([Problem("", f"is not a stack file in YAML: {error}")], str(path)) from error
    config = document.get("config") if isinstance(document, dict) else None
    if not isinstance(config, dict):
        raise StackError([Problem("config", f"expected the keys {PROJECT}:nodes, …")], str(path))
    # Keys of other namespaces belong to providers.
    return {
        str(key).removeprefix(f"{PROJECT}:"): value
        for key, value in config.items()
        if str(key).startswith(f"{PROJECT}:") or ":" not in str(key)
    }


def _reworded(problem: Problem, paths: Collection[str]) -> Problem:
    """The problem, reworded if the key is not missing but encrypted."""
    if problem.path in paths and problem.message.startswith("required"):
        return Problem(
            problem.path, "is encrypted, and only Pulumi can decrypt it; this command needs its value"
        )
    return problem


class _Loader(yaml.SafeLoader):
    """Refuses YAML with a repeated key, as Pulumi does: PyYAML would silently keep the last one."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        first: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in first:
                repeated = f"the key {key.value} is already in line {first[key.value]}"
                raise yaml.MarkedYAMLError(problem=repeated, problem_mark=key.start_mark)
            first[key.value] = key.start_mark.line + 1
        return node


def load(project: str = PROJECT) -> Stack:
    """The stack of the Pulumi program that is running, encrypted values decrypted.

    Raises StackError.
    """
    import pulumi
    from pulumi.runtime.config import is_config_secret

    keys = {info.alias or field for field, info in Stack.model_fields.items()}
    # `pulumi.Config` cannot list its keys; a key that no section has is to be reported.
    given = pulumi.runtime.get_config_env()
    keys |= {key.removeprefix(f"{project}:") for key in given if key.startswith(f"{project}:")}
    values = {key: pulumi.runtime.get_config(f"{project}:{key}") for key in sorted(keys)}
    own = {key: _structured(value) for key, value in values.items() if value is not None}
    name = pulumi.get_stack()
    source = f"Pulumi.{name}.yaml"
    found = _decrypted(own, {key for key in own if is_config_secret(f"{project}:{key}")}, FOLDER / source)
    hidden = encrypted.secrets(found)
    try:
        stack = parse(own, name, source)
    except StackError as error:
        problems = [Problem(each.path, encrypted.masked(each.message, hidden)) for each in error.problems]
        raise StackError([*encrypted.refusals(found), *problems], source) from None
    if refused := list(encrypted.refusals(found)):
        raise StackError(refused, source)
    stack._secrets = hidden
    return stack


def _decrypted(own: Mapping[str, Any], keys: Collection[str], file: Path) -> dict[str, str]:
    """The values that were encrypted, by path. `keys` are those of `own` that hold one."""
    try:
        written = own_keys(file) if keys else {}
    except StackError:  # Pulumi has the configuration from another file, or from an environment.
        written = {}
    return {
        path: text
        for key in sorted(keys)
        for path, text in encrypted.values(written.get(key), own[key], key).items()
    }


def _structured(value: str) -> Any:
    """A value of Pulumi's configuration, in which lists and mappings are JSON and all others are text."""
    if value[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    return value


def _with_shared(given: Any, shared: Mapping[str, Any]) -> Any:
    """The node, a bare address made a mapping, with the stack's `ports` and `remote` under its own."""
    node = {"host": given} if isinstance(given, str) else given
    if not isinstance(node, dict):
        return node
    own = {key: node.get(key, {}) for key in shared}
    return node | {key: shared[key] | own[key] for key in shared if isinstance(own[key], dict)}


def _with_gateway_defaults(given: Any, nodes: list[Node]) -> Any:
    """The gateway's section with the defaults that depend on the nodes."""
    if not isinstance(given, dict):
        return given
    hosts = [node.host for node in nodes if not node.embedded]
    named = given["host"] if "host" in given else given.get("hosts")
    embedded = named in ("embedded", ["embedded"]) if named else bool(nodes and not hosts)
    gateway = {"mode": "embedded" if embedded else "container", **given}
    if not gateway.keys() & {"host", "hosts"} and gateway["mode"] != "embedded" and hosts:
        gateway["host"] = hosts[0]
    return gateway
