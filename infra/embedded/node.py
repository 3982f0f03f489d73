"""An embedded node: Triton and the inference service as processes.

Applying a declaration again restarts nothing. `apply_node` returns when the node is healthy, or raises
EmbeddedError with the last log lines of the process that is not.
"""

import re
import sys
from pathlib import Path

import yaml

from infra import names
from infra.digest import LARGE_BYTES, digest, files_in
from infra.embedded import triton
from infra.embedded.declarations import NodeDeclaration, TritonDeclaration
from infra.embedded.environment import check_folder, check_ports, process_environment
from infra.embedded.errors import EmbeddedError
from infra.embedded.layout import Layout
from infra.embedded.program import Program, write_private
from infra.embedded.readiness import Progress, quiet, wait_until_ready
from infra.embedded.supervisor import Supervisor
from infra.models.backends import needs_of
from infra.paths import PACKAGE, PROJECT
from infra.triton_arguments import stop_seconds

MODELS_VENV = PROJECT / ".venv-models"


def node_programs(layout: Layout, node: NodeDeclaration) -> list[Program]:
    """The node's programs in their start order. Raises EmbeddedError if Triton is not installed."""
    programs = [] if node.triton is None else [_triton_program(layout, node, node.triton)]
    settings = _settings_file(layout, node)
    service = Program(
        name=names.process(node.name, names.SERVICE),
        command=[sys.executable, "-m", "inference_service", "--config", str(settings)],
        environment={**process_environment(), **node.environment},
        directory=PROJECT,
        revision=digest(files_in(PACKAGE / "inference_service"), _settings(layout, node)),
        stop_seconds=node.grace_seconds + 5,
    )
    return [*programs, service]


def start_node(layout: Layout, node: NodeDeclaration) -> list[str]:
    """Start the node's programs that do not run as declared; returns the names of those (re)started.

    Does not wait until the node is ready.
    """
    check_folder(layout)
    layout.create()
    programs = node_programs(layout, node)
    supervisor = Supervisor(layout)
    check_ports(layout, {f"node {node.name}: ports.{key}": port for key, port in node.ports.items()})
    node_folder = layout.node(node.name)
    (node_folder / "run").mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(_settings_file(layout, node), _settings(layout, node))
    if node.triton is None:  # A node that changed from Triton to remote has one program less.
        supervisor.remove([names.process(node.name, names.TRITON)])
    return supervisor.apply(programs)


def await_node(layout: Layout, node: NodeDeclaration, progress: Progress = quiet) -> None:
    """Wait until the node's health route answers 200. Raises EmbeddedError after `node.ready_seconds`."""
    wait_until_ready(
        Supervisor(layout), node.programs, node.health_url, node.name, node.ready_seconds, progress
    )


def apply_node(layout: Layout, node: NodeDeclaration, progress: Progress = quiet) -> list[str]:
    """Run the node as declared and wait until it is healthy; returns the programs (re)started."""
    started = start_node(layout, node)
    await_node(layout, node, progress)
    return started


def remove_node(layout: Layout, name: str) -> list[str]:
    """Stop the node, its service first; returns the names of the stopped programs."""
    return Supervisor(layout).remove(
        [names.process(name, names.SERVICE)], [names.process(name, names.TRITON)]
    )


def declared_nodes(layout: Layout) -> list[str]:
    """The names of the nodes that were applied and not removed."""
    programs = Supervisor(layout).programs
    end = names.process("", names.SERVICE)
    return [name.removesuffix(end) for name in programs if name.endswith(end)]


def _triton_program(layout: Layout, node: NodeDeclaration, declared: TritonDeclaration) -> Program:
    repository = Path(declared.repository)
    read, completes = _models(node, declared, repository)
    try:
        installation = triton.find_installation(MODELS_VENV)
    except triton.TritonNotInstalled as error:
        raise EmbeddedError(f"node {node.name}: {error}") from None
    for folder in (layout.root, repository.absolute()):
        unfit = sorted(set(re.findall(r"[^\w./+@%=:,~-]", str(folder))))
        if unfit:
            raise EmbeddedError(
                f"node {node.name}: Triton starts its models through a shell, which would split {folder} "
                f"at {' '.join(map(repr, unfit))}; rename the folder"
            )
    backends = triton.install_backends(installation, layout.root / "triton-backends")
    # Unique to this node: other stacks may have a node of the same name. No name has an underscore.
    shared_memory = Path(f"/dev/shm/triton-{digest((), str(layout.root))}-{node.name}_")
    process = triton.server_process(
        installation,
        backends=backends,
        model_repository=repository,
        grace=node.grace_seconds,
        models=declared.models,
        ports=declared.ports,
        extra_args=declared.extra_args,
        shared_memory_prefix=shared_memory.name,
        completes=completes,
        inherit=process_environment(),
        extra_environment=declared.environment,
    )
    requirements = PACKAGE / "requirements" / "models-embedded.txt"
    return Program(
        name=names.process(node.name, names.TRITON),
        command=process.command,
        environment=process.environment,
        directory=PROJECT,
        revision=digest(
            [*files_in(*read, triton.PYTHON_BASED), ("requirements", requirements)], large_bytes=LARGE_BYTES
        ),
        stop_seconds=stop_seconds(node.grace_seconds),
        leftovers=str(shared_memory),
    )


def _models(node: NodeDeclaration, declared: TritonDeclaration, repository: Path) -> tuple[list[Path], bool]:
    """The folders that Triton reads, and whether it completes a configuration among them.

    Raises EmbeddedError for a folder that is not there, and for a model whose backend is not there.
    """
    models = declared.models
    read = [repository] if models is None else [repository / model for model in models]
    for folder in read:
        if not folder.is_dir():
            raise EmbeddedError(f"node {node.name}: the model folder {folder} does not exist (models.path)")
    folders = [path for path in repository.iterdir() if path.is_dir()] if models is None else read
    needed = {folder.name: needs_of(folder) for folder in folders}
    backends = triton.backend_names()
    for model, need in needed.items():
        # Of models that nobody chose, Triton itself reports those that do not load.
        if models is not None and need.backend is not None and need.backend not in backends:
            raise EmbeddedError(
                f"node {node.name}: the model {model} needs Triton's backend {need.backend}, and the "
                f"embedded Triton has {' and '.join(backends)} only; serve the model on a Docker host, or "
                "export it to ONNX"
            )
    return read, any(need.completion and need.backend == "onnxruntime" for need in needed.values())


def _settings_file(layout: Layout, node: NodeDeclaration) -> Path:
    return layout.node(node.name) / names.SETTINGS_FILE_NAME


def _settings(layout: Layout, node: NodeDeclaration) -> str:
    server = {**node.service.get("server", {}), "runtime_dir": str(layout.node(node.name) / "run")}
    return yaml.safe_dump({**node.service, "server": server}, allow_unicode=True)
