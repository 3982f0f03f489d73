"""Copies a model to a host and switches a node to it: `python -m infra.steps.models copy|activate|remove`.

On the host, `<root>/store/<model>-<version>` are complete copies, and `<root>/repository/<model>` are links
to the copies in use. A copy is written under another name, checked against its files' digests and then
renamed. A link is replaced by a rename. So an interrupted copy is never served.
"""

import contextlib
import hashlib
import io
import json
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import IO

from inference_service.addresses import TRITON_URL
from inference_service.model_cards import CONTENT_HASH
from infra.connection import Connection, RemoteError
from infra.declaration import Declaration
from infra.digest import files_in
from infra.models.backends import CONFIG
from infra.names import ENGINE_SECONDS, REPOSITORY, STORE
from infra.paths import PROJECT
from infra.steps.run import run

_MANIFEST = ".sha256"
# Protobuf joins the lists of a field that is given twice, and of two entries with one key the last counts.
_VERSION = f'\nparameters {{{{ key: "{CONTENT_HASH}" value {{{{ string_value: "{{version}}" }}}} }}}}\n'
# Printed by a host that does not have the copy yet.
_SEND = b"send"

_UNPACK = """
set -e
mkdir -p {root}/{store} {root}/{repository}
cd {root}/{store}
[ ! -d {final} ] || exit 0
echo {send}
rm -rf {partial}
mkdir {partial}
tar -xmf - --no-same-owner -C {partial}
cd {partial}
sha256sum --quiet --check {manifest}
rm {manifest}
chmod -R u+rwX,go+rX-w .
cd ..
rm -rf {final}
mv -T {partial} {final}
"""

# Runs in the service's container, which has Python and is on Triton's network.
_RELOAD = f"""
import json, sys, urllib.error, urllib.request
def call(path):
    request = urllib.request.Request("{TRITON_URL}/v2/" + path, data=b"{{}}", method="POST")
    return urllib.request.urlopen(request, timeout={ENGINE_SECONDS}).read()
for action, model in json.load(sys.stdin):
    try:
        call(f"repository/models/{{model}}/{{action}}")
    except urllib.error.HTTPError as error:
        sys.exit(f"{{model}}: {{json.loads(error.read()).get('error')}}")
    except OSError as error:
        sys.exit(f"Triton does not answer: {{error}}")
"""


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
    root = shlex.quote(copied.root)
    final = shlex.quote(f"{copied.model}-{copied.version}")
    script = _UNPACK.format(
        root=root,
        store=STORE,
        repository=REPOSITORY,
        final=final,
        partial=f".partial-{final}",
        manifest=_MANIFEST,
        send=_SEND.decode(),
    )
    host = subprocess.Popen(
        connection.command(script), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert host.stdin is not None and host.stdout is not None
    output = b""
    # A host that ends early closes the pipe; its output has the reason.
    with contextlib.suppress(BrokenPipeError):
        for line in host.stdout:
            if line.strip() == _SEND:
                pack(PROJECT / copied.source, copied.version, host.stdin)
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
        add(_MANIFEST, "".join(manifest).encode())


def activate(in_use: InUse) -> None:
    """Switches the node's repository to the declared versions; a running Triton loads those that changed.

    If Triton rejects a model, the links go back to the versions before. Copies out of use are removed.
    """
    connection, root = in_use.connection, in_use.root
    wanted = {model: f"../{STORE}/{model}-{version}" for model, version in in_use.models.items()}
    before = _links(connection, root)
    changed = [model for model, link in wanted.items() if before.get(model) != link]
    gone = sorted(before.keys() - wanted.keys())
    _switch(connection, root, {model: wanted[model] for model in changed}, gone)
    try:
        _reload(in_use, changed, gone)
    except RemoteError as error:
        _switch(connection, root, before, [model for model in changed if model not in before])
        raise RemoteError(connection.host, error.status, f"node {in_use.node}: {error.output}") from None
    keep = " ".join(shlex.quote(Path(link).name) for link in wanted.values())
    connection.run(
        f"cd {shlex.quote(root)}/{STORE} && rm -rf .partial-* && for copy in * ; do"
        f' case " {keep} " in *" $copy "*) ;; *) rm -rf -- "$copy";; esac; done'
    )


def _links(connection: Connection, root: str) -> dict[str, str]:
    script = (
        f"mkdir -p {shlex.quote(root)}/{REPOSITORY} && cd {shlex.quote(root)}/{REPOSITORY} &&"
        ' for model in *; do if [ -L "$model" ]; then echo "$model $(readlink "$model")"; fi; done'
    )
    return dict(line.split(" ", 1) for line in connection.run(script).stdout.splitlines())


def _switch(connection: Connection, root: str, links: dict[str, str], gone: list[str]) -> None:
    lines = [f"set -e; cd {shlex.quote(root)}/{REPOSITORY}"]
    for model, link in sorted(links.items()):
        name, new = shlex.quote(model), shlex.quote(f".new-{model}")
        lines += [f"ln -sfn {shlex.quote(link)} {new}", f"mv -T {new} {name}"]
    lines += [f"rm -f {shlex.quote(model)}" for model in gone]
    connection.run("\n".join(lines))


def _reload(in_use: InUse, changed: list[str], gone: list[str]) -> None:
    steps = [
        (action, model)
        for action, models in (("unload", gone), ("load", changed))
        for model in models
        if in_use.loads is None or model in in_use.loads
    ]
    triton, service = in_use.triton, in_use.service
    if not steps or triton is None:
        return
    connection = in_use.connection
    running = connection.run("docker ps --format '{{.Names}}'").stdout.split()
    if triton in running and service in running:
        connection.run(
            f"docker exec -i {shlex.quote(service)} python -c {shlex.quote(_RELOAD)}",
            stdin=json.dumps(steps).encode(),
        )


def remove(in_use: InUse) -> None:
    """Removes the node's models from the host."""
    in_use.connection.remove_folder(in_use.root)


if __name__ == "__main__":
    sys.exit(
        run({"copy": (Copy, copy), "activate": (InUse, activate), "remove": (InUse, remove)}, RemoteError)
    )
