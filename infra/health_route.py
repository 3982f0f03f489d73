"""Waits until a health route answers 200: `python health_route.py URL SECONDS`.

The readiness step runs this file's text in the service's container, so it uses only the standard library.
"""

from __future__ import annotations

import http.client
import json
import ssl
import sys
import time
import urllib.error
import urllib.request

_ANSWER_SECONDS = 5
_POLL_SECONDS = 0.5


def unready(url: str) -> str | None:
    """The reason why `url` does not answer 200; None if it does."""
    # The certificate names the public host, and this request goes to the loopback address.
    context = ssl._create_unverified_context() if url.startswith("https:") else None
    try:
        with urllib.request.urlopen(url, timeout=_ANSWER_SECONDS, context=context):
            return None
    except urllib.error.HTTPError as error:
        return message(error.read()) or f"HTTP {error.code}"
    except (http.client.HTTPException, OSError):
        return "it does not answer yet"


def message(body: bytes) -> str | None:
    """The service's own reason."""
    try:
        reason = json.loads(body)["message"]
    except (ValueError, KeyError, TypeError):
        return None
    return reason if isinstance(reason, str) else None


def main(url: str, seconds: float) -> str | None:
    """Waits until `url` answers 200; returns the last reason if it does not within `seconds`."""
    end = time.monotonic() + seconds
    while (reason := unready(url)) is not None and time.monotonic() < end:
        time.sleep(_POLL_SECONDS)
    return reason


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2])))
