"""Whether the gateway's container can reach the nodes, before it dials them at other ports than until now."""

import shlex

from infra import names
from infra.connection import Connection

_SECONDS = 3
#: Images of nginx have bash or, on Alpine, nc. Prints each address that answers.
_DIAL = f"""
for each in "$@"; do
  host=${{each%:*}} port=${{each##*:}}; host=${{host#[}}; host=${{host%]}}
  if command -v bash >/dev/null; then timeout {_SECONDS} bash -c ": </dev/tcp/$host/$port"
  else nc -z -w {_SECONDS} "$host" "$port"; fi 2>/dev/null && echo "$each"
done; :
"""


class NoNode(Exception):
    """The gateway would reach no node; `str(error)` says which ports have to be opened."""


def check(connection: Connection, image: str, folder: str, dials: tuple[str, ...]) -> None:
    """Dials the nodes' addresses (`host:port`, with TLS) unless the configuration in use does so already.

    `folder` has the gateway's configurations. Prints the silent nodes. Raises NoNode if all are silent.
    """
    live = shlex.quote(f"{folder}/{names.CURRENT}/{names.NGINX_CONF}")
    dial = f"{shlex.quote(image)} -c {shlex.quote(_DIAL)} dial {' '.join(map(shlex.quote, dials))}"
    script = (
        f"grep -qs proxy_ssl_verify {live} && echo live && exit;"
        " docker run --rm --network bridge --add-host host.docker.internal:host-gateway"
        f" --entrypoint sh {dial}"
    )
    answered = connection.run(script, timeout=60 + _SECONDS * len(dials)).stdout.split()
    silent = [each for each in dials if each not in answered]
    if not silent or "live" in answered:
        return
    ports = ", ".join(silent)
    if len(silent) == len(dials):
        raise NoNode(
            f"the gateway ({connection.host}) stays as it is: it cannot reach any node with TLS at {ports}. "
            "Let the gateway through to these ports (ports.httpTls, ports.grpcTls), or set "
            "gpu-inference:tls: {nodes: false}"
        )
    print(f"the gateway cannot reach these nodes with TLS: {ports}")
