"""`python -m inference_service.console SETTINGS`."""

import sys
from pathlib import Path

import uvicorn

from inference_service.console.app import build
from inference_service.console.settings import SettingsInvalid, load


def main() -> int:
    """Serves until SIGTERM; returns the exit status."""
    if len(sys.argv) != 2:
        print("usage: python -m inference_service.console SETTINGS.json", file=sys.stderr)
        return 2
    try:
        settings = load(Path(sys.argv[1]))
    except SettingsInvalid as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    uvicorn.run(
        build(settings, Path(sys.argv[1])),
        uds=settings.socket,
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=2,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
