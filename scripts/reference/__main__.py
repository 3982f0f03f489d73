"""Write the reference pages, or check that they are fresh.

python -m scripts.reference           # writes docs/reference/
python -m scripts.reference --check   # exit status 1 when a page is not what it would write
"""

import argparse
import sys
from collections.abc import Callable

from infra.paths import PROJECT
from scripts.reference import commands, grpc, http, metrics, stack

FOLDER = PROJECT / "docs" / "reference"
PAGES: dict[str, Callable[[], str]] = {
    "stack.md": stack.page,
    "commands.md": commands.page,
    "http.md": http.page,
    "grpc.md": grpc.page,
    "metrics.md": metrics.page,
}


def stale() -> list[str]:
    """The pages that the code does not give any more, and those that are missing."""
    return [name for name, page in PAGES.items() if _written(name) != page()]


def _written(name: str) -> str | None:
    file = FOLDER / name
    return file.read_text(encoding="utf-8") if file.is_file() else None


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.reference")
    parser.add_argument("--check", action="store_true", help="only check that the pages are up to date")
    if parser.parse_args().check:
        for name in (late := stale()):
            print(f"docs/reference/{name} is out of date: run python -m scripts.reference", file=sys.stderr)
        return 1 if late else 0
    FOLDER.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
