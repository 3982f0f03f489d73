"""Copies a model to a host and switches a node to it: `python -m infra.steps.models copy|activate|remove`.

On the host, `<root>/store/<model>-<version>` are complete copies, and `<root>/repository/<model>` are links
to the copies in use. A copy is written under another name, checked against its files' digests and then
renamed. A link is replaced by a rename. So an interrupted copy is never served.

A copy whose files are not as recorded is made again (`infra/models/records.py`).
"""

import contextlib
import functools
import hashlib
import io
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from inference_service.model_cards import CONTENT_HASH
from infra.connection import Connection, RemoteError
from infra.declaration import Declaration
from infra.digest import files_in
from infra.models.backends import CONFIG
from infra.names import STORE
from infra.paths import PROJECT
from infra.steps import model_scripts as scripts
from infra.steps.progress import told
from infra.steps.run import run

# Protobuf joins the lists of a field that is given twice, and of two entries with one key the last counts.
_VERSION = f'\nparameters {{{{ key: "{CONTENT_HASH}" value {{{{ string_value: "{{version}}" }}}} }}}}\n'


class Copy(Declaration, frozen=True, kw_only=True):
    """One version of a model to copy to a host.

    `root` is the node's folder of models on the host, `source` the model's folder here.
    """

    connection: Connection
    root: str
    source: str
    model: str
    version: str


class InUse(Declaration, frozen=True, kw_only=True):
    """The models that a node serves, as versions by name; all are on the host already.

    `service` and `triton` are containers; `triton` is None for a runtime that loads no models by itself.
    Triton loads the models `loads` and no others; None: all.
    """

    connection: Connection
    root: str
    node: str
    models: dict[str, str]
    service: str
    triton: str | None
    loads: tuple[str, ...] | None = None


def copy(copied: Copy) -> None:
    """Copies one version of a model to the host, unless it is there already."""
    connection = copied.connection
    source = PROJECT / copied.source
    size = sum(path.stat().st_size for _, path in files_in(source)) // 1024
    command = connection.command(scripts.UNPACK, copied.root, f"{copied.model}-{copied.version}", str(size))
    host = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert host.stdin is not None and host.stdout is not None
    output = b""
    # A host that ends early closes the pipe; its output has the reason.
    with contextlib.suppress(BrokenPipeError):
        for line in host.stdout:
            if line.strip() == scripts.SEND:
                pack(source, copied.version, told(host.stdin, f"model {copied.model}", 1024 * size))
                break
            output += line
    with contextlib.suppress(BrokenPipeError):
        host.stdin.close()
    output += host.stdout.read()
    if host.wait() != 0:
        message = f"copying model {copied.model}: {output.decode(errors='replace')}"
        raise RemoteError(connection.host, host.returncode, message)


def pack(model: Path, version: str, out: IO[bytes]) -> None:
    """Writes a model's files to `out` as a tar archive, with a list of their digests.

    Its config.pbtxt gets the version as a parameter: so Triton tells it to the service with the model.
    """
    manifest = []

    def add(name: str, content: bytes) -> None:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))

    with tarfile.open(fileobj=out, mode="w|") as archive:
        for name, path in files_in(model):
            if name == CONFIG:
                content = path.read_bytes() + _VERSION.format(version=version).encode()
                manifest.append(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
                add(name, content)
                continue
            with path.open("rb") as file:
                manifest.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n")
            archive.add(path.resolve(), name, recursive=False)
        add(scripts.MANIFEST, "".join(manifest).encode())


def activate(in_use: InUse) -> None:
    """Switches the node's repository to the declared versions; a running Triton loads those that changed.

    Triton loads models first and unloads those that are not declared any more last. If it refuses one, links
    and Triton go back to what they were. Copies that are neither in use nor were before are removed.
    """
    connection, root = in_use.connection, in_use.root
    wanted = {model: f"../{STORE}/{model}-{version}" for model, version in in_use.models.items()}
    before = _links(connection, root)
    again = connection.run(scripts.AGAIN, root).stdout.splitlines()
    changed = [
        model for model, link in wanted.items() if before.get(model) != link or Path(link).name in again
    ]
    gone = sorted(before.keys() - wanted.keys())
    _switch(connection, root, {model: wanted[model] for model in changed})
    try:
        _reload(in_use, changed, gone, before)
    except RemoteError as error:
        raise RemoteError(connection.host, error.status, f"node {in_use.node}: {error.output}") from None
    if gone:
        connection.run(scripts.UNLINK, root, *gone)
    # Those before stay until the next activation, for the way back.
    kept = {Path(link).name for link in (*wanted.values(), *before.values())}
    connection.run(scripts.CLEAN, root, *sorted(kept))
    connection.run(scripts.RECORD, root, *(part for link in sorted(wanted.items()) for part in link))


def _links(connection: Connection, root: str) -> dict[str, str]:
    """What each link in the repository leads to, by model."""
    lines = connection.run(scripts.LINKS, root).stdout.splitlines()
    return {model: link for model, _, link in (line.partition("/") for line in lines)}


def _switch(connection: Connection, root: str, links: dict[str, str]) -> None:
    if links:
        connection.run(scripts.SWITCH, root, *(part for link in sorted(links.items()) for part in link))


def _reload(in_use: InUse, changed: list[str], gone: list[str], before: dict[str, str]) -> None:
    """Has a running Triton load the changed models, then unload those that are gone.

    If Triton refuses one, the links lead to what they led to `before`, and Triton serves what it served.
    Raises RemoteError with Triton's reason.
    """
    actions = [
        (action, model)
        for action, models in (("load", changed), ("unload", gone))
        for model in models
        if in_use.loads is None or model in in_use.loads
    ]
    if not actions or not _runs(in_use) or _has_former_folders(in_use):
        return
    undo: list[tuple[str, str]] = []
    try:
        for action, model in actions:
            if model not in before:
                # Also if Triton refuses it: a model that failed to load makes Triton not ready.
                undo.append(("unload", model))
            _call(in_use, action, model)
            if model in before:
                # A model that Triton refuses is served in the version before: nothing to undo.
                undo.append(("load", model))
    except RemoteError as error:
        failures = _go_back(in_use, changed, before, undo)
        output = "\nand on the way back: ".join([error.output.rstrip(), *failures])
        raise RemoteError(in_use.connection.host, error.status, output) from None


def _go_back(
    in_use: InUse, changed: list[str], before: dict[str, str], undo: list[tuple[str, str]]
) -> list[str]:
    """Restores the links and undoes what Triton did. Returns what failed: the rest is undone all the same."""
    connection, root = in_use.connection, in_use.root
    steps: list[Callable[[], object]] = [
        lambda: _switch(connection, root, {model: before[model] for model in changed if model in before}),
        lambda: connection.run(scripts.UNLINK, root, *(model for model in changed if model not in before)),
        *(functools.partial(_call, in_use, action, model) for action, model in reversed(undo)),
    ]
    failures = []
    for step in steps:
        try:
            step()
        except RemoteError as failed:
            failures.append(failed.output.strip())
    return failures


def _runs(in_use: InUse) -> bool:
    """Whether the node has a Triton and a service that run now."""
    if in_use.triton is None:
        return False
    running = in_use.connection.run("docker ps --format '{{.Names}}'").stdout.split()
    return in_use.triton in running and in_use.service in running


def _has_former_folders(in_use: InUse) -> bool:
    """Whether somebody removed the folders that the running Triton has; the update replaces its container."""
    assert in_use.triton is not None
    seen = in_use.connection.run(scripts.FOLDERS, in_use.root, in_use.triton).stdout.split()
    return len(seen) == 4 and seen[:2] != seen[2:]


def _call(in_use: InUse, action: str, model: str) -> None:
    """Has Triton `load` or `unload` a model. Raises RemoteError with Triton's reason."""
    in_use.connection.run(scripts.EXEC, in_use.service, scripts.CALL, action, model)


def remove(in_use: InUse) -> None:
    """Removes the node's models from the host."""
    in_use.connection.remove_folder(in_use.root)


if __name__ == "__main__":
    sys.exit(
        run({"copy": (Copy, copy), "activate": (InUse, activate), "remove": (InUse, remove)}, RemoteError)
    )
