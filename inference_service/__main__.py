"""`python -m inference_service [--config FILE]`: serve until SIGTERM."""

import argparse
import logging
import os
import sys
from pathlib import Path

from inference_service import logs, supervisor, tracing
from inference_service.settings import SettingsError, load


def main() -> int:
    """Load the settings, say what is wrong with them, and serve. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m inference_service", description=__doc__)
    parser.add_argument(
        "--config",
        type=Path,
        default=os.environ.get("AI_CONFIG") or None,
        help="the settings' YAML file (default: that in the environment's AI_CONFIG, else the text in its "
        "AI_CONFIG_TEXT, else defaults)",
    )
    parser.add_argument("--check", action="store_true", help="only check the settings, then exit")
    arguments = parser.parse_args()
    path = Path(arguments.config) if arguments.config else None
    try:
        settings, warnings = load(path, os.environ)
        if (reason := tracing.missing(settings)) is not None:
            raise SettingsError([reason])
    except SettingsError as error:
        print(f"The settings{f' in {path}' if path else ''} cannot be used:", file=sys.stderr)
        for problem in error.problems:
            print(f"  {problem}", file=sys.stderr)
        return 2
    logs.configure(settings.server.log_level)
    for warning in warnings:
        logging.getLogger("inference_service.settings").warning(warning)
    if arguments.check:
        return 0
    try:
        return supervisor.run(settings)
    except supervisor.StartError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
