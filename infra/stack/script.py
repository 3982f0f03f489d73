"""Turns the environment of the original service's deployment script into a stack file."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from infra.stack.hosts import Host, SshHost, parse_host
from infra.stack.load import PROJECT, parse
from infra.stack.node import Ports
from infra.stack.problems import Problem, StackError
from infra.stack.runtimes import Models
from infra.stack.shown import shown

# The script's port variables and their keys in the stack file.
PORTS = {
    "AI_HTTP_PORT": "http",
    "AI_GRPC_PORT": "grpc",
    "TRITON_HTTP_PORT": "tritonHttp",
    "TRITON_GRPC_PORT": "tritonGrpc",
    "TRITON_METRICS_PORT": "tritonMetrics",
    "UNIT_MANAGER_PORT": "unitManager",
}
VARIABLES = (
    "GPU_AI_NODES",
    "GPU_AI_NODES_FILE",
    "SSH_USER",
    "REMOTE_DIR",
    "MODEL_DIR",
    *PORTS,
    "AI_INFERENCE_UPSTREAMS",
    "AI_INFERENCE_UPSTREAMS_FILE",
)
_PUBLIC_PORTS = (".publicHttpPort", ".publicGrpcPort", ".publicHttpTlsPort", ".publicGrpcTlsPort")


def import_script(environ: Mapping[str, str]) -> str:
    """The text of a stack file for the fleet that the script's variables in `environ` describe.

    Upstream number i, the address that the site's nginx dialled, belongs to node number i. Raises StackError
    with every mistake; mistakes in a file have their line numbers.
    """
    problems: list[Problem] = []
    nodes = _addresses(environ, "GPU_AI_NODES", "GPU_AI_NODES_FILE", problems)
    upstreams = _addresses(environ, "AI_INFERENCE_UPSTREAMS", "AI_INFERENCE_UPSTREAMS_FILE", problems)
    ports = _ports(environ, problems)
    if not nodes and not problems:
        problems.append(
            Problem("GPU_AI_NODES", "expected host:port …; neither it nor GPU_AI_NODES_FILE is set")
        )
    if nodes and upstreams and len(nodes) != len(upstreams):
        problems.append(
            Problem(
                "AI_INFERENCE_UPSTREAMS",
                f"expected one for each of the {len(nodes)} nodes, in their order, got {len(upstreams)}",
            )
        )
    if problems:
        raise StackError(problems, "the script's environment")

    config: dict[str, Any] = {
        "nodes": list(_nodes(nodes, upstreams, environ.get("SSH_USER") or "root", ports))
    }
    changed = {key: port for key, port in ports.items() if port != _default_port(key)}
    if changed:
        config["ports"] = changed
    models = environ.get("MODEL_DIR") or Models().path
    config["models"] = {"source": "host", "path": models}
    if environ.get("REMOTE_DIR"):
        config["remoteDir"] = environ["REMOTE_DIR"]
    document = {"config": {f"{PROJECT}:{key}": value for key, value in config.items()}}
    return _missing_ports(config) + yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def _missing_ports(config: Mapping[str, Any]) -> str:
    """Checks the stack; returns comments that name the public ports to add by hand.

    The script balanced HTTP only, without TLS: it never knew the other public ports of nodes behind one NAT
    address. Their public HTTP ports are those of the upstreams, which the environment may lack.
    """
    try:
        parse(config, source="the stack that the script's environment gives")
    except StackError as error:
        if any(not problem.path.endswith(_PUBLIC_PORTS) for problem in error.problems):
            raise
        return "".join(
            f"# Add {problem.path}: the script's environment lacks it, and {problem.message}.\n"
            for problem in error.problems
        )
    return ""


def _nodes(
    nodes: list[SshHost], upstreams: list[SshHost], user: str, ports: Mapping[str, int]
) -> Iterator[dict[str, Any]]:
    for number, address in enumerate(nodes):
        host = SshHost(address.address, address.user or user, address.port)
        node: dict[str, Any] = {"name": f"gpu-{number + 1}", "host": str(host)}
        if upstreams:
            dialled = upstreams[number]
            if dialled.address != host.address:
                node["publicHost"] = dialled.address
            if dialled.port != ports.get("http", _default_port("http")):
                node["publicHttpPort"] = dialled.port
        yield node


def _default_port(key: str) -> int:
    field = next(name for name, info in Ports.model_fields.items() if info.alias == key)
    return int(getattr(Ports(), field))


def _ports(environ: Mapping[str, str], problems: list[Problem]) -> dict[str, int]:
    ports = {}
    for variable, key in PORTS.items():
        text = environ.get(variable)
        if not text:
            continue
        if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
            problems.append(Problem(variable, f"expected a port from 1 to 65535, got {shown(text)}"))
        else:
            ports[key] = int(text)
    return ports


def _addresses(
    environ: Mapping[str, str], variable: str, file_variable: str, problems: list[Problem]
) -> list[SshHost]:
    """The addresses of a variable (blanks between them) or of a file (one a line; `#` begins a comment).

    The variable wins where both are set, as it did in the script.
    """
    found: dict[tuple[str, int], tuple[str, SshHost]] = {}
    for where, entry in _entries(environ, variable, file_variable, problems):
        address: Host | None
        try:
            address = parse_host(f"ssh://{entry}")
        except ValueError:
            address = None
        if not isinstance(address, SshHost) or address.port is None:
            problems.append(Problem(where, f"expected host:port, got {shown(entry)}"))
            continue
        key = (address.address.lower(), address.port)
        if key in found:
            first = f", first in {found[key][0]}" if found[key][0] != where else ""
            problems.append(Problem(where, f"{entry} is listed twice{first}"))
        found.setdefault(key, (where, address))
    return [address for _, address in found.values()]


def _entries(
    environ: Mapping[str, str], variable: str, file_variable: str, problems: list[Problem]
) -> Iterator[tuple[str, str]]:
    if environ.get(variable, "").strip():
        for entry in environ[variable].replace(",", " ").split():
            yield variable, entry
    elif environ.get(file_variable):
        path = Path(environ[file_variable]).expanduser()
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
            problems.append(Problem(file_variable, f"{path} cannot be read: {reason}"))
            return
        for number, line in enumerate(lines, start=1):
            for entry in line.partition("#")[0].replace(",", " ").split():
                yield f"{path}:{number}", entry
