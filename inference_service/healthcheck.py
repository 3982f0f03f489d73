"""`python -m inference_service.healthcheck`: exit status 0 if this node's own service can answer.

For Docker's HEALTHCHECK and Kubernetes' probes. It needs no other program in the image, and reads the port
from the service's settings. With `--answers` each model that the node offers must also answer now.
"""

import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from inference_service.settings import load
from inference_service.settings.types import ServerSettings

#: Seconds; the service answers within two.
_TIMEOUT = 4.0
#: Seconds for the first inference of each model, which may compile code.
_FIRST_TIMEOUT = 50.0
_API = "/api/v1/ai"


def main(arguments: list[str] | None = None) -> int:
    """Request …/health, and with `--answers` let each model infer; print what was answered."""
    given = sys.argv[1:] if arguments is None else arguments
    path = os.environ.get("AI_CONFIG")
    server = load(Path(path) if path else None, os.environ)[0].server
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(server.host, server.host)
    base = f"http://{host}:{server.http_port}{_API}"
    try:
        status = _asked(server, f"{base}/health", _TIMEOUT)["status"]
        if given == ["--answers"] and (silent := _silent(server, base)):
            print("; ".join(silent))
            return 1
        print(status)
        return 0
    except urllib.error.HTTPError as error:
        print(f"HTTP {error.code}: {error.read(2000).decode('utf-8', 'replace')}")
    except OSError as error:
        print(f"{host}:{server.http_port}: {error}")
    return 1


def _silent(server: ServerSettings, base: str) -> list[str]:
    """The models that the node offers and that do not answer, each with the reason."""
    offered = _asked(server, f"{base}/info", _TIMEOUT)["capabilities"]
    if not offered:
        return []
    body = json.dumps({"models": offered}).encode()
    models = _asked(server, f"{base}/setup", _FIRST_TIMEOUT, body)["models"]
    return [
        f"{task}: {model.get('error', 'no reason')}" for task, model in models.items() if not model["ready"]
    ]


def _asked(server: ServerSettings, url: str, seconds: float, body: bytes | None = None) -> dict[str, Any]:
    """The `data` of the answer to a request, with one of the service's own API keys."""
    headers = {"Content-Type": "application/json"}
    if server.api_keys:
        headers["X-API-Key"] = server.api_keys[0].get_secret_value()
    request = urllib.request.Request(url, body, headers)
    with urllib.request.urlopen(request, timeout=seconds) as answer:
        data: dict[str, Any] = json.load(answer)["data"]
        return data


if __name__ == "__main__":
    sys.exit(main())
