"""The command: `python -m infra.models list|fetch|convert|export|check`."""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from infra.doctor import linter
from infra.models import catalogue, commands, display
from infra.models.backends import CONFIG
from infra.models.check import check
from infra.models.problem import ModelProblem
from infra.paths import PROJECT

_OK, _FOUND, _USAGE = 0, 1, 2
#: Columns of output to a file or a pipe.
_PLAIN_WIDTH = 200
_MODEL_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns 0 when it is done, 1 after a problem or with faults, 2 after a usage error."""
    given = parser().parse_args(arguments)
    # A terminated command removes what it has begun.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        return int(given.run(given))
    except (ModelProblem, linter.NotARepository) as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        print(f"error: {error.filename or 'the system'}: {error.strerror}", file=sys.stderr)
    return _FOUND


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="fleet models",
        description="Brings models to a model repository, as folders that Triton and the service take.",
        epilog="docs/models.md goes from nothing to a model of your own on a fleet.",
    )
    add_commands(parser)
    return parser


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add the commands to a parser; each sets `run`: from the parsed arguments to an exit status."""
    known = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    listed = known.add_parser("list", help="show the catalogue")
    listed.add_argument("--json", action="store_true", help="print it as JSON, with files and checksums")
    listed.set_defaults(run=list_models)

    source = "a name of the catalogue, OWNER/REPOSITORY[@REVISION] of the Hugging Face hub, or a folder"
    fetched = known.add_parser("fetch", help="bring a model of the catalogue, or a CTranslate2 Whisper")
    fetched.add_argument("name", metavar="NAME", help=source)
    _add_common(fetched)
    fetched.set_defaults(run=fetch)

    converted = known.add_parser(
        "convert", help="convert a Whisper checkpoint of Transformers to CTranslate2"
    )
    converted.add_argument("name", metavar="CHECKPOINT", help=source)
    converted.add_argument(
        "--quantization",
        choices=("float16", "bfloat16", "int8", "int8_float16", "float32"),
        default="float16",
        help="the type that the weights are stored in (default: float16)",
    )
    _add_common(converted)
    converted.set_defaults(run=convert)

    exported = known.add_parser("export", help="export an audio classifier of Transformers to ONNX")
    exported.add_argument("name", metavar="CHECKPOINT", help=source)
    exported.add_argument("--task", choices=("emotion", "synthesis"), help="default: what the labels tell")
    exported.add_argument("--synthetic-label", metavar="LABEL", help="the label for synthetic speech")
    exported.add_argument(
        "--rename",
        metavar="LABEL=NAME",
        type=_pair,
        action="append",
        default=[],
        help="a label's name in the answers; may be repeated",
    )
    _add_common(exported)
    exported.set_defaults(run=export)

    checked = known.add_parser("check", help="check a model repository, or one model folder")
    checked.add_argument("path", type=Path)
    checked.add_argument("--json", action="store_true", help="print the faults as JSON")
    checked.set_defaults(run=check_models)


def _add_common(parser: argparse.ArgumentParser) -> None:
    default = PROJECT / "model_repository"
    parser.add_argument(
        "--to",
        type=Path,
        default=default,
        metavar="DIR",
        help="the model repository (default: ./model_repository)",
    )
    parser.add_argument(
        "--name", dest="model", type=_model_name, metavar="MODEL", help="the model's name there"
    )
    parser.add_argument("--mirror", metavar="URL", help="a mirror of the hub (default: $HF_ENDPOINT)")
    parser.add_argument(
        "--from", dest="folder", type=Path, metavar="FOLDER", help="take the files from a folder"
    )
    parser.add_argument("--replace", action="store_true", help="replace a model of that name")


def list_models(given: argparse.Namespace) -> int:
    """Show the catalogue."""
    if given.json:
        print(json.dumps([each.model_dump() for each in catalogue.entries()], indent=1, ensure_ascii=False))
        return _OK
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    display.table(console, catalogue.entries())
    return _OK


def fetch(given: argparse.Namespace) -> int:
    """Bring a model."""
    with display.progress() as bar:
        made = commands.fetch(_request(given), bar)
    return _done(made)


def convert(given: argparse.Namespace) -> int:
    """Convert a Whisper checkpoint."""
    with display.progress() as bar:
        made = commands.convert(_request(given), given.quantization, bar)
    return _done(made)


def export(given: argparse.Namespace) -> int:
    """Export a classifier."""
    with display.progress() as bar:
        made = commands.export(
            _request(given),
            bar,
            task=given.task,
            synthetic_label=given.synthetic_label,
            rename=dict(given.rename),
        )
    return _done(made)


def check_models(given: argparse.Namespace) -> int:
    """Check a repository, or one model folder, and print the faults."""
    path = given.path.resolve()
    one = (path / CONFIG).is_file()
    faults = check(path.parent if one else path)
    if one:
        faults = [fault for fault in faults if fault.model == path.name]
    if given.json:
        print(json.dumps([asdict(fault) for fault in faults], indent=1, ensure_ascii=False))
    else:
        for fault in faults:
            print(f"{fault}\n    → {fault.remedy}")
        print(f"{len(faults)} faults" if faults else "no fault")
    return _FOUND if faults else _OK


def _request(given: argparse.Namespace) -> commands.Request:
    return commands.Request(
        name=given.name,
        to=given.to,
        folder=given.folder,
        model=given.model,
        mirror=given.mirror,
        replace=given.replace,
    )


def _done(made: commands.Made) -> int:
    print(display.summary(made))
    return _OK


def _model_name(text: str) -> str:
    if not _MODEL_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text}: expected letters, digits and . _ -")
    return text


def _pair(text: str) -> tuple[str, str]:
    label, equals, name = text.partition("=")
    if not equals or not label or not name:
        raise argparse.ArgumentTypeError(f"{text}: expected LABEL=NAME")
    return label, name
