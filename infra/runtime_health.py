"""Commands in the containers of runtimes that tell whether the runtime is up, with what its image has."""

from inference_service import addresses
from infra import names

_TRITON_LIVE = f"http://{names.LOOPBACK}:{addresses.TRITON_HTTP_PORT}/v2/health/live"
# Without any tool but the shell; the kernel writes ports in hexadecimal.
_LISTENS = f"grep -qi ':{addresses.UNIT_MANAGER_PORT:04X} .* 0A ' /proc/net/tcp /proc/net/tcp6"

#: Whether something listens on the unit manager's port.
UNIT_MANAGER = ("sh", "-c", _LISTENS)
#: The llm node listens on no port, only on its socket in the /tmp that it shares with the unit manager.
LLM_NODE = ("test", "-S", "/tmp/rpc.llm")


def triton(*options: str) -> tuple[str, ...]:
    """Whether Triton is live; `options` are more of curl's."""
    return ("curl", "--fail", "--silent", "--output", "/dev/null", *options, _TRITON_LIVE)
