"""Calls the Docker Engine's API on a host, through the host's own docker command.

For what that command cannot do: create a container again exactly as `docker inspect` describes it.
"""

import http.client
import io
import json
import subprocess
from typing import IO, Any, cast

from infra.connection import Connection, RemoteError

_SECONDS = 120


def create_again(connection: Connection, described: dict[str, Any], labels: dict[str, str]) -> str:
    """Creates a container as `docker inspect` describes one that is gone, with more labels; returns its id.

    Raises RemoteError.
    """
    config = {**described["Config"], "Labels": {**(described["Config"].get("Labels") or {}), **labels}}
    config.pop("Hostname", None)  # The id of the container that is gone.
    own = described["Id"][:12]
    networks = {
        name: {"Aliases": [alias for alias in network.get("Aliases") or [] if alias != own]}
        for name, network in described["NetworkSettings"]["Networks"].items()
    }
    body = {
        **config,
        "HostConfig": described["HostConfig"],
        "NetworkingConfig": {"EndpointsConfig": networks},
    }
    name = described["Name"].removeprefix("/")
    made = _call(
        connection, "POST", f"/containers/create?name={name}", "application/json", json.dumps(body).encode()
    )
    return str(json.loads(made)["Id"])


def unpack(connection: Connection, container: str, folder: str, archive: bytes) -> None:
    """Unpacks a tar archive into a folder of a container. Raises RemoteError."""
    _call(connection, "PUT", f"/containers/{container}/archive?path={folder}", "application/x-tar", archive)


def _call(connection: Connection, method: str, path: str, kind: str, body: bytes) -> bytes:
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    process = subprocess.Popen(
        connection.command("docker system dial-stdio"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    try:
        process.stdin.write(head.encode() + body)
        process.stdin.flush()
        # The input stays open until the answer is there: the daemon gives up a request whose client has gone.
        answer = http.client.HTTPResponse(cast(Any, _Stream(process.stdout)), method=method)
        answer.begin()
        content = answer.read()
    except (OSError, http.client.HTTPException) as error:
        process.kill()
        said = process.stderr.read().decode(errors="replace").strip()
        raise RemoteError(connection.host, 1, said or f"Docker does not answer: {error}") from None
    finally:
        process.stdin.close()
        process.kill()
        process.wait()
    if answer.status >= 300:
        message = content.decode(errors="replace")
        raise RemoteError(connection.host, 1, f"Docker refuses {method} {path}: {message}")
    return content


class _Stream:
    """What `http.client` takes for a socket: the pipe from the host."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe

    def makefile(self, mode: str) -> io.BufferedIOBase:
        return cast(io.BufferedIOBase, self._pipe)
