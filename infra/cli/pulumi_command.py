"""Runs the Pulumi CLI on a stack, and reads what it did from its event log."""

import json
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.cli import rollout, stack_files
from infra.cli.screen import Failed, piped
from infra.cli.short_log import pass_on
from infra.embedded import with_pulumi
from infra.embedded.layout import STATE
from infra.paths import PROJECT, pulumi_cli
from infra.stack import Stack

_INSTALL = "To install it: https://www.pulumi.com/docs/install/"
#: How far the memory of Pulumi and its providers grows between two searches for garbage, in percent. Go's own
#: 100 take an eighth more processor time for 64 hosts; this takes 0.4 GB more with their 65 providers.
_MORE_GARBAGE = "400"
_REPLACING = ("replace", "create-replacement", "delete-replaced", "discard-replaced")


@dataclass(frozen=True, slots=True)
class Done:
    """A Pulumi command that ended: its exit status, its seconds, and the operation on each changed resource.

    `changes` has (type, name) of resources and create, update, replace or delete.
    """

    status: int
    seconds: float
    changes: dict[tuple[str, str], str]


def cli() -> Path:
    """The Pulumi CLI. Raises Failed with where to get it."""
    found = pulumi_cli()
    if found is None:
        raise Failed(f"the Pulumi CLI is neither on PATH nor in ~/.pulumi/bin.\n{_INSTALL}")
    return found


def home() -> Path:
    """The folder with the state and the passphrase of a person without a Pulumi backend."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "gpu-inference-fleet"


def environment(stack: Stack | None) -> dict[str, str]:
    """The CLI's environment.

    A backend and a passphrase that the person chose stay. Else a stack on this computer has its state where
    `fleet up` keeps it, and a fleet has it in `home()`.
    """
    if stack is not None and stack_files.on_this_computer(stack):
        return with_pulumi.environment(STATE)
    chosen = dict(os.environ)
    chosen.setdefault("PULUMI_SKIP_UPDATE_CHECK", "true")
    chosen.setdefault("GOGC", _MORE_GARBAGE)
    for name, value in defaults().items():
        chosen.setdefault(name, value)
    return chosen


def defaults() -> dict[str, str]:
    """The variables that `fleet` sets for Pulumi where the person has chosen no backend."""
    if "PULUMI_BACKEND_URL" in os.environ or _logged_in():
        return {}
    variables = {"PULUMI_BACKEND_URL": f"file://{home() / 'state'}"}
    if not {"PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"} & os.environ.keys():
        variables["PULUMI_CONFIG_PASSPHRASE_FILE"] = str(home() / "passphrase")
    return variables


def _logged_in() -> bool:
    """Whether the person has chosen a backend with `pulumi login`."""
    file = Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi") / "credentials.json"
    try:
        return bool(json.loads(file.read_text(encoding="utf-8")).get("current"))
    except (OSError, ValueError):
        return False


def make_home() -> None:
    """Makes the folder of the state and a passphrase, where the defaults use them."""
    variables = defaults()
    if not variables:
        return
    (home() / "state").mkdir(mode=0o700, parents=True, exist_ok=True)
    passphrase = home() / "passphrase"
    if "PULUMI_CONFIG_PASSPHRASE_FILE" in variables and not passphrase.exists():
        with os.fdopen(os.open(passphrase, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(secrets.token_urlsafe(32))


def read(stack: str, *arguments: str, secret: str | None = None) -> str:
    """What a command prints; `secret` is its standard input. Raises Failed with its errors."""
    done = _captured(stack, *arguments, "--stack", stack, given=secret or "")
    if done.returncode:
        raise Failed(f"pulumi {' '.join(arguments[:2])}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def create_if_absent(stack: str) -> None:
    """Creates the stack in the backend unless it is there. Raises Failed."""
    make_home()
    done = _captured(stack, "stack", "select", "--create", stack)
    if done.returncode:
        raise Failed(f"the stack {stack} cannot be opened: {done.stderr.strip()}")


def _captured(stack: str, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Runs a command without a terminal; `given` is its standard input."""
    return subprocess.run(
        [str(cli()), *arguments, "--non-interactive"],
        cwd=PROJECT,
        env=environment(_loaded(stack)),
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )


def run(stack: str, command: str, *options: str, nodes: int = 0) -> Done:
    """Runs preview, up, refresh or destroy on this terminal. Ctrl-C goes to Pulumi, which ends by itself.

    With `nodes`, the number of nodes that an update may change, it tells when each has changed.
    """
    arguments = [str(cli()), command, "--stack", stack, *options]
    if piped():
        arguments.append("--non-interactive")
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
        log = Path(folder) / "events.json"
        loaded = _loaded(stack)
        # With this variable, the CLI writes its operations as data.
        variables = {**environment(loaded), "PULUMI_DEBUG_COMMANDS": "true"}
        if loaded is not None and loaded.in_cluster:
            # The provider writes the kubeconfig to a temporary file, with its token, and leaves it there.
            variables["TMPDIR"] = folder
        sys.stdout.flush()
        process = subprocess.Popen(
            [*arguments, "--event-log", str(log)],
            cwd=PROJECT,
            env=variables,
            stdout=subprocess.PIPE if piped() else None,
            text=True,
            errors="replace",
        )
        shown = threading.Thread(target=pass_on, args=(process.stdout,)) if process.stdout else None
        if shown is not None:
            shown.start()
        ended = threading.Event()
        follower = threading.Thread(
            target=rollout.follow, args=(log, nodes, ended, rollout.tell), daemon=True
        )
        if nodes:
            follower.start()
        while process.returncode is None:
            try:
                process.wait()
            except KeyboardInterrupt:
                continue
        if shown is not None:
            shown.join()
        ended.set()
        if nodes:
            follower.join()
        events = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return Done(process.returncode, time.monotonic() - begin, changes(events))


def changes(events: list[str]) -> dict[tuple[str, str], str]:
    """The operation on each resource that changes, from the lines of an event log."""
    found: dict[tuple[str, str], str] = {}
    for line in events:
        if not line.endswith("}"):
            continue
        event: dict[str, Any] = json.loads(line)
        metadata = (event.get("resourcePreEvent") or {}).get("metadata")
        if metadata and metadata["op"] not in ("same", "refresh", "read"):
            kind, name = metadata["urn"].split("::")[-2:]
            operation = "replace" if metadata["op"] in _REPLACING else metadata["op"]
            found[kind.rpartition("$")[2], name] = operation
    return found


def _loaded(stack: str) -> Stack | None:
    return stack_files.load(stack) if stack_files.path_of(stack).is_file() else None
