"""`python -m infra.stack check FILE`, `schema`, `import-script [FILE]`, `import-pools FROM [FILE]`."""

import argparse
import os
import re
import sys
from pathlib import Path

import yaml

from infra.stack import schema, script
from infra.stack.import_pools import import_pools
from infra.stack.load import PROJECT, load_file, own_keys
from infra.stack.problems import Problem, StackError


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit status, 1 for a stack that cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m infra.stack")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="check a stack file and report every mistake in it")
    check.add_argument("file", type=Path)
    fresh = commands.add_parser("schema", help=f"write {schema.FILE.name}, the JSON Schema of a stack file")
    fresh.add_argument("--check", action="store_true", help="only check that the file is up to date")
    imported = commands.add_parser(
        "import-script",
        help="turn the original deployment script's environment into a stack file",
        epilog=f"reads {', '.join(script.VARIABLES)}",
    )
    imported.add_argument("file", type=Path, nargs="?", help="the stack file to write, e.g. Pulumi.prod.yaml")
    pools = commands.add_parser("import-pools", help="turn a stack file for hosts into one for Kubernetes")
    pools.add_argument("source", type=Path, help="the stack file for hosts")
    pools.add_argument("file", type=Path, nargs="?", help="the stack file to write, e.g. Pulumi.cluster.yaml")
    given = parser.parse_args(arguments)
    try:
        if given.command == "check":
            stack = load_file(given.file)
            nodes = "1 node" if len(stack.nodes) == 1 else f"{len(stack.nodes)} nodes"
            print(f"{given.file}: {nodes}, no mistakes")
        elif given.command == "schema":
            return _schema(given.check)
        elif given.command == "import-pools":
            return _write(given.file, *_pools(given.source))
        else:
            return _import(given.file)
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _schema(check: bool) -> int:
    if not check:
        schema.FILE.write_text(schema.text(), encoding="utf-8")
        return 0
    if schema.FILE.is_file() and schema.FILE.read_text(encoding="utf-8") == schema.text():
        return 0
    print(f"{schema.FILE.name} is out of date: run python -m infra.stack schema", file=sys.stderr)
    return 1


def _import(file: Path | None) -> int:
    text = script.import_script(os.environ)
    notes = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")]
    return _write(file, text, notes)


def _pools(source: Path) -> tuple[str, list[str]]:
    """The text of the stack file in a cluster, and notes. Raises StackError."""
    stack = load_file(source)
    if stack.in_cluster:
        raise StackError([Problem("target", "is kubernetes already")], str(source))
    document = yaml.safe_load(source.read_text(encoding="utf-8"))
    config, notes = import_pools(stack, own_keys(source))
    # With what Pulumi decrypts them, encrypted values stay as they are.
    kept = {key: value for key, value in document.items() if key != "config"}
    others = {
        key: value
        for key, value in document["config"].items()
        if ":" in str(key) and not str(key).startswith(f"{PROJECT}:")
    }
    own = {f"{PROJECT}:{key}": value for key, value in config.items()}
    text = yaml.safe_dump({**kept, "config": {**own, **others}}, sort_keys=False, allow_unicode=True)
    return "".join(f"# {note}\n" for note in notes) + text, notes


def _write(file: Path | None, text: str, notes: list[str]) -> int:
    name = re.fullmatch(r"Pulumi\.(.+)\.yaml", file.name) if file is not None else None
    if file is not None and name is None:
        print(f"{file}: expected Pulumi.<stack>.yaml", file=sys.stderr)
        return 1
    for note in notes:
        print(note, file=sys.stderr)
    if file is None or name is None:
        print(text, end="")
        return 0
    try:
        with file.open("x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError:
        print(f"{file} exists already; name another file", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{file} cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    print(f"wrote {file}; pulumi stack init {name[1]}, then pulumi preview shows what it would do")
    return 0


if __name__ == "__main__":
    sys.exit(main())
