"""Write the dashboards, or check that they are fresh.

python -m scripts.dashboards           # writes examples/monitoring/dashboards/
python -m scripts.dashboards --check   # exit status 1 when a file is not what it would write
"""

import argparse
import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from infra.monitoring.dashboards import FOLDER
from scripts.dashboards import fleet, gateway, gpus, node, speech

_DASHBOARDS = {"fleet": fleet, "gateway": gateway, "node": node, "speech": speech, "gpus": gpus}


def made() -> dict[str, str]:
    """The dashboards as JSON, by file name."""
    encoder = JSONEncoder(sort_keys=True, indent=1)
    return {
        f"{name}.json": encoder.encode(module.dashboard().build()) + "\n"
        for name, module in _DASHBOARDS.items()
    }


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.dashboards")
    parser.add_argument("--check", action="store_true", help="only check that the files are up to date")
    files = {FOLDER / name: text for name, text in made().items()}
    if parser.parse_args().check:
        late = [path for path, text in files.items() if not path.is_file() or path.read_text() != text]
        for path in late:
            print(f"{path.name} is out of date: run python -m scripts.dashboards", file=sys.stderr)
        return 1 if late else 0
    FOLDER.mkdir(exist_ok=True)
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
