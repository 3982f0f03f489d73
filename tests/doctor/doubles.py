"""Doubles of hosts: an `ssh` that runs the script here, with the host's own `docker`, `nvidia-smi` and `df`.

No SSH connection is made and no Docker runs. The doubles print what the real commands print, so the doctor's
conclusions can be tested for many hosts at once. `tests/e2e/test_8_doctor.py` checks real hosts.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from inference_service import addresses
from infra import service_settings as settings
from infra.doctor.linter.config import interface, parse
from infra.image_references import sources
from infra.stack import Node, Stack

REPOSITORY = Path(__file__).parents[2] / "model_repository"

# The commands that the doctor's scripts call on every host. All other commands are the double's own.
_TOOLS = (
    "bash",
    "cat",
    "date",
    "dirname",
    "find",
    "head",
    "ls",
    "sed",
    "sh",
    "sleep",
    "tail",
    "tar",
    "timeout",
    "tr",
)
# `$HOSTS/<name>` is a host: its commands, and in `failure` what ssh says instead of connecting. The system's
# folders are the host's own, so that the ports, processes and drivers of this computer are not seen.
_SSH = r"""#!/bin/sh
master=
while [ $# -gt 0 ]; do
  case $1 in
    -M) master=1;;
    -N|-T) ;;
    -o) case $2 in ControlPath=*) control=${2#ControlPath=};; esac; shift;;
    -p|-i|-F|-J) shift;;
    --) shift; break;;
    *) host=${1#*@};;
  esac
  shift
done
here=$HOSTS/$host
if [ -e "$here/failure" ]; then
  [ ! -e "$here/seconds" ] || sleep "$(cat "$here/seconds")"
  if [ -e "$here/together" ]; then
    : >"$here/dialled"
    until [ "$(ls "$HOSTS"/*/dialled | wc -l)" -ge "$(cat "$here/together")" ]; do sleep 0.05; done
  fi
  cat "$here/failure" >&2
  exit 255
fi
if [ -n "$master" ]; then : >"$control"; exec sleep 1000; fi
PATH=$here:$TOOLS HERE=$here
export PATH HERE
exec sh -c "$(printf '%s' "$1" | sed "s#/\\(proc\\|var/run\\|run\\|etc/cdi\\|usr\\)/#$here&#g")"
"""

_DOCKER = r"""#!/bin/sh
[ ! -e "$HERE/docker-failure" ] || { cat "$HERE/docker-failure" >&2; exit 1; }
case "$1 $2" in
  "version "*) cat "$HERE/version";;
  "info "*) case "$*" in *Runtimes*) cat "$HERE/runtimes";; *) echo "$HERE";; esac;;
  "ps --all") echo one;;
  "ps "*) cat "$HERE/published";;
  "inspect "*) cat "$HERE/inspect.json";;
  "cp "*) cat "$HERE/settings.tar";;
  "logs "*) cat "$HERE/log";;
  "exec "*) exec nvidia-smi -L;;
  "image inspect") echo ok;;
  "run --rm") exec nvidia-smi -L;;
  *) echo "docker: '$1' is not a docker command." >&2; exit 1;;
esac
"""

_NVIDIA_SMI = """#!/bin/sh
case $1 in
  -L) echo "GPU 0: NVIDIA L4 (UUID: GPU-0)"; echo "GPU 1: NVIDIA L4 (UUID: GPU-1)";;
  *) echo "0, NVIDIA L4, 550.54, 900 MiB, 23034 MiB"; echo "1, NVIDIA L4, 550.54, 900 MiB, 23034 MiB";;
esac
"""

_DF = """#!/bin/sh
echo "/dev/sda1 100000000 10000000 90000000 10% /var"
"""


@dataclass
class Hosts:
    """Hosts by their address, in a folder. With `environment`, `ssh` reaches them."""

    folder: Path
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        binaries = self.folder / "bin"
        binaries.mkdir(parents=True)
        _executable(binaries / "ssh", _SSH)
        tools = self.folder / "tools"
        tools.mkdir()
        for name in _TOOLS:
            (tools / name).symlink_to(shutil.which(name) or name)
        self.environment = {
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "HOSTS": str(self.folder / "hosts"),
            "TOOLS": str(tools),
        }

    def add(self, address: str, stack: Stack, address_of_containers: str = "127.0.0.1") -> Path:
        """Adds a healthy host with all containers of the stack's nodes. Returns its folder, for faults."""
        host = self.folder / "hosts" / address
        host.mkdir(parents=True)
        _executable(host / "docker", _DOCKER)
        _executable(host / "nvidia-smi", _NVIDIA_SMI)
        _executable(host / "df", _DF)
        (host / "proc" / "net").mkdir(parents=True)
        (host / "proc" / "net" / "tcp").write_text("")
        (host / "version").write_text("24.0.7\n")
        (host / "runtimes").write_text('{"nvidia":{},"runc":{}}\n')
        (host / "log").write_text("")
        nodes = [node for node in stack.nodes if getattr(node.host, "address", "") == address]
        described, published = [], []
        for node in nodes:
            self.write_settings(host, stack, node)
            for part in sources(stack, node):
                container = container_of(stack, node, part, address_of_containers)
                described.append(container)
                ports = ", ".join(
                    f"0.0.0.0:{binding[0]['HostPort']}->{inner}"
                    for inner, binding in container["HostConfig"]["PortBindings"].items()
                )
                published.append(f"{container['Name'][1:]}\t{ports}")
        if getattr(stack.gateway.host, "address", "") == address and stack.gateway.mode == "container":
            described.append(_container(f"{stack.name}-gateway", stack.gateway.image, address_of_containers))
        (host / "inspect.json").write_text(json.dumps(described))
        (host / "published").write_text("".join(f"{line}\n" for line in published))
        return host

    def cut_off(self, address: str, seconds: float) -> None:
        """A host that does not answer: ssh gives up after so many seconds."""
        host = self.folder / "hosts" / address
        host.mkdir(parents=True, exist_ok=True)
        (host / "seconds").write_text(str(seconds))
        self.refuse(address, f"ssh: connect to host {address} port 22: Connection timed out")

    def cut_off_together(self, addresses: Sequence[str]) -> None:
        """Hosts that do not answer: ssh gives up once all of them are dialled, and hangs until then."""
        for address in addresses:
            self.cut_off(address, seconds=0)
            (self.folder / "hosts" / address / "together").write_text(str(len(addresses)))

    def refuse(self, address: str, message: str) -> None:
        """A host of which ssh prints this error."""
        (self.folder / "hosts" / address / "failure").write_text(message + "\n")

    @staticmethod
    def write_settings(host: Path, stack: Stack, node: Node) -> None:
        """Writes the settings file in the service's container."""
        text = settings.settings_text(stack, node).encode()
        with tarfile.open(host / "settings.tar", "w") as archive:
            entry = tarfile.TarInfo("ai-inference-service.yaml")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text))


def edit_containers(host: Path, part: str, **changes: Any) -> None:
    """Change the output of `docker inspect` for a part: `State={…}`. Without arguments the container does not
    exist."""
    described = json.loads((host / "inspect.json").read_text())
    for container in list(described):
        if container["Name"].endswith(f"-{part}"):
            for section, values in changes.items():
                if isinstance(container.get(section), dict):
                    container[section] |= values
                else:
                    container[section] = values
            if not changes:
                described.remove(container)
    (host / "inspect.json").write_text(json.dumps(described))


def container_of(stack: Stack, node: Node, part: str, address: str) -> dict[str, Any]:
    """The output of `docker inspect` for a container that is as declared."""
    images = {"triton": stack.triton.source, "service": stack.service.source}
    described = _container(f"{stack.name}-{node.name}-{part}", str(images.get(part)), address)
    if part == "triton":
        request = {"Capabilities": [["gpu"]]} | (
            {"Count": -1} if node.gpus == "all" else {"DeviceIDs": [str(index) for index in node.gpus]}
        )
        described["HostConfig"]["DeviceRequests"] = [request] if node.wants_gpus else []
        described["Mounts"] = [{"Destination": "/models", "Source": str(REPOSITORY)}]
    if part == "service":
        described["HostConfig"]["PortBindings"] = {
            f"{addresses.HTTP_PORT}/tcp": [{"HostPort": str(node.ports.http)}],
            f"{addresses.GRPC_PORT}/tcp": [{"HostPort": str(node.ports.grpc)}],
        }
    return described


def _container(name: str, image: str, address: str) -> dict[str, Any]:
    return {
        "Name": f"/{name}",
        "RestartCount": 0,
        "State": {
            "Status": "running",
            "ExitCode": 0,
            "OOMKilled": False,
            "Error": "",
            "StartedAt": "2026-01-01T00:00:00.0Z",
            "Health": {"Status": "healthy", "Log": []},
        },
        "Config": {"Image": image, "Env": [], "Cmd": []},
        "HostConfig": {"PortBindings": {}, "DeviceRequests": []},
        "NetworkSettings": {"Networks": {"own": {"IPAddress": address}}},
        "Mounts": [],
    }


def _executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@contextmanager
def node_api(answers: Mapping[str, tuple[int, Any]] | None = None, port: int = 0) -> Iterator[int]:
    """A double of a node's Triton and service on one port. Healthy, except for `answers` by path."""
    all_answers = {**healthy_answers(), **(answers or {})}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, content = all_answers.get(self.path, (404, {"error": f"no {self.path}"}))
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 512

    server = Server(("127.0.0.1" if port == 0 else "", port), Handler)
    thread = threading.Thread(target=lambda: server.serve_forever(0.02), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def healthy_answers() -> dict[str, tuple[int, Any]]:
    """The answers of a healthy node's Triton and service, from the models of this project."""
    answers: dict[str, tuple[int, Any]] = {
        "/v2/health/live": (200, {}),
        "/v2/health/ready": (200, {}),
        "/health": (200, {"status": "ok"}),
        "/api/v1/ai/health": (200, {"data": {"status": "healthy"}}),
        "/api/v1/ai/info": (200, {"data": {"model_cards": {"asr": {"name": "asr", "kind": "neural"}}}}),
        "/api/v1/ai/asr": (200, {"data": {"text": "And so, my fellow Americans"}}),
    }
    index = []
    for folder in sorted(path.parent for path in REPOSITORY.glob("*/config.pbtxt")):
        config = parse((folder / "config.pbtxt").read_text())
        there = interface(config)
        answers[f"/v2/models/{folder.name}/config"] = (
            200,
            json_format.MessageToDict(config, preserving_proto_field_name=True),
        )
        answers[f"/v2/models/{folder.name}"] = (
            200,
            {
                "name": folder.name,
                "inputs": [_tensor(tensor) for tensor in there.inputs.values()],
                "outputs": [_tensor(tensor) for tensor in there.outputs.values()],
            },
        )
        index.append({"name": folder.name, "version": "1", "state": "READY"})
    answers["/v2/repository/index"] = (200, index)
    return answers


def _tensor(tensor: Any) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
