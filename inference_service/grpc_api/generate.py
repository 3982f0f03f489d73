"""Generate the Python code of `ai_service.proto`, or check that it is fresh.

    python -m inference_service.grpc_api.generate           # writes generated/
    python -m inference_service.grpc_api.generate --check   # exit status 1 when it is not what it would write

The proto's package is `grpc`, but the modules must not be: they would shadow the gRPC library. So protoc is
told that the file lies in this package's `generated` folder, and the modules import each other from there.
"""

import argparse
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

_HERE = Path(__file__).parent
_GENERATED = _HERE / "generated"
_PACKAGE_FOLDER = "inference_service/grpc_api/generated"
_INIT = '"""Generated from ai_service.proto by `python -m inference_service.grpc_api.generate`."""\n'


def generate() -> dict[str, str]:
    """Return the generated files: name to contents. Raises RuntimeError when protoc fails."""
    with tempfile.TemporaryDirectory() as out:
        status = protoc.main(
            [
                "protoc",
                f"-I{_PACKAGE_FOLDER}={_HERE}",
                f"-I{files('grpc_tools') / '_proto'}",
                f"--python_out={out}",
                f"--pyi_out={out}",
                f"--grpc_python_out={out}",
                f"{_PACKAGE_FOLDER}/ai_service.proto",
            ]
        )
        if status != 0:
            raise RuntimeError(f"protoc failed with status {status}; its reason is above")
        folder = Path(out, _PACKAGE_FOLDER)
        return {"__init__.py": _INIT} | {
            path.name: path.read_text(encoding="utf-8") for path in sorted(folder.iterdir())
        }


def stale(wanted: dict[str, str]) -> list[str]:
    """Return the names in `generated/` whose contents differ from `wanted`, are missing, or are too many."""
    present = {path.name: path.read_text(encoding="utf-8") for path in _GENERATED.glob("*.py*")}
    return sorted(name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name))


def main() -> int:
    """Write the generated code, or with `--check` compare it; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the code is not fresh")
    check = parser.parse_args().check
    wanted = generate()
    changed = stale(wanted)
    if check:
        for name in changed:
            print(
                f"{_PACKAGE_FOLDER}/{name} is not what ai_service.proto gives: run", end=" ", file=sys.stderr
            )
            print("python -m inference_service.grpc_api.generate", file=sys.stderr)
        return 1 if changed else 0
    _GENERATED.mkdir(exist_ok=True)
    for name in changed:
        if name in wanted:
            (_GENERATED / name).write_text(wanted[name], encoding="utf-8")
        else:
            (_GENERATED / name).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
