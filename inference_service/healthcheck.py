"""`python -m inference_service.healthcheck`: exit status 0 if this node's own service can answer.

For Docker's HEALTHCHECK. It needs no other program in the image, and reads the port from the service's
settings.
"""

import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

from inference_service.settings import load

#: Seconds; the service answers within two.
_TIMEOUT = 4.0


def main() -> int:
    """Request …/health and print its answer, which `docker inspect` shows."""
    path = os.environ.get("AI_CONFIG")
    server = load(Path(path) if path else None, os.environ)[0].server
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(server.host, server.host)
    try:
        with urllib.request.urlopen(
            f"http://{host}:{server.http_port}/api/v1/ai/health", timeout=_TIMEOUT
        ) as answer:
            print(json.load(answer)["data"]["status"])
            return 0
    except urllib.error.HTTPError as error:
        print(f"HTTP {error.code}: {error.read(2000).decode('utf-8', 'replace')}")
    except OSError as error:
        print(f"{host}:{server.http_port}: {error}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
