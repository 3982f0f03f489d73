"""The console beside the gateway's nginx, in the same pod: a container from the service's image."""

from inference_service.console.settings import API_KEYS, PASSWORD
from infra import names
from infra.kubernetes import pods
from infra.kubernetes.labels import Manifest
from infra.kubernetes.pods import mount
from infra.service_settings import keys_text
from infra.stack import Stack

#: The volume with the sockets of nginx and the console.
SOCKETS = "console"
#: Seconds until a console that has ended starts again.
_AGAIN_SECONDS = 5
_SETTINGS, _FOLDER = "console-settings", "/etc/fleet"


def secrets(stack: Stack) -> dict[str, str]:
    """The secret variables of the console; none without a console."""
    if stack.console is None:
        return {}
    held = {API_KEYS: keys_text(stack)} if stack.api_keys else {}
    if stack.console.password is not None:
        held[PASSWORD] = stack.console.password.get_secret_value()
    return held


def start_script(settings: str) -> str:
    """What the console's container runs. A console that ends is started again in the same container: a
    container that restarts makes its pod unready, and nginx beside it would get no requests."""
    return "\n".join(
        [
            "trap 'kill $running; wait $running; exit 0' TERM INT",
            "while :; do",
            f"  python3 -m inference_service.console {settings} & running=$!",
            "  wait $running",
            f"  sleep {_AGAIN_SECONDS} & running=$!",
            "  wait $running",
            "done",
        ]
    )


def container(stack: Stack, image: str, secret: str, leaving_seconds: int) -> Manifest:
    """The console's container; the Secret of the name `secret` has its keys. When its pod ends it goes on for
    `leaving_seconds`, as long as nginx takes connections."""
    assert stack.console is not None
    settings = f"{_FOLDER}/{names.CONSOLE_SETTINGS}"
    held = sorted(secrets(stack))
    socket = f"{names.CONSOLE_MOUNT}/{names.CONSOLE_SOCKET}"
    # Nobody listens: the console starts again by itself.
    asked = (
        "import socket; s = socket.socket(socket.AF_UNIX); s.settimeout(4)\n"
        f"try: s.connect({socket!r})\n"
        "except (ConnectionRefusedError, FileNotFoundError): raise SystemExit(0)\n"
        "s.sendall(b'GET /console/api/entrance HTTP/1.0\\r\\n\\r\\n')\n"
        "raise SystemExit(b' 200 ' not in s.recv(64))"
    )
    return {
        "name": names.CONSOLE,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", start_script(settings)],
        "env": pods.variables({}, secret, held),
        "resources": pods.resources(stack.console.memory, "50m", None, "64m"),
        "securityContext": pods.container_security(read_only=True),
        "volumeMounts": [
            mount(_SETTINGS, _FOLDER, read_only=True),
            mount(SOCKETS, names.CONSOLE_MOUNT),
        ],
        "lifecycle": {"preStop": {"sleep": {"seconds": leaving_seconds}}},
        "livenessProbe": pods.command_probe(
            ["python3", "-I", "-S", "-c", asked],
            initialDelaySeconds=20,
            periodSeconds=30,
            timeoutSeconds=5,
            failureThreshold=3,
        ),
    }


def volumes(config_map: str) -> list[Manifest]:
    """The console's volumes; its settings are in the gateway's ConfigMap."""
    settings = {"key": names.CONSOLE_SETTINGS, "path": names.CONSOLE_SETTINGS}
    return [
        {"name": _SETTINGS, "configMap": {"name": config_map, "items": [settings]}},
        pods.empty(SOCKETS),
    ]
