"""The real Pulumi CLI on a copy of the project, with a state of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.lab.prerequisites import find, search_path
from tests.e2e.lab.processes import Process

PROJECT = Path(__file__).parents[3]
PASSPHRASE = "e2e"
# Files that git ignores too: environments and state.
LEFT_OUT = shutil.ignore_patterns(
    ".git",
    ".venv*",
    ".state",
    "build",
    "*.egg-info",
    "__pycache__",
    ".*_cache",
    ".hypothesis",
    "Pulumi.*.yaml",
)


@dataclass
class Result:
    """The result of one Pulumi command.

    `steps` has the operation for each resource that changes: create, update, replace, delete or read. Its
    keys are the types and names of the resources.
    """

    returncode: int
    output: str
    seconds: float
    events: list[dict[str, Any]] = field(repr=False)

    @property
    def steps(self) -> dict[str, str]:
        steps: dict[str, str] = {}
        for event in self.events:
            metadata = event.get("resourcePreEvent", {}).get("metadata")
            if metadata and metadata["op"] not in ("same", "refresh"):
                kind, name = metadata["urn"].split("::")[-2:]
                op = "replace" if metadata["op"] in REPLACING else metadata["op"]
                steps[f"{kind.rpartition('$')[2]}::{name}"] = op
        return steps

    @property
    def deleted(self) -> list[str]:
        """The resources that were deleted, also to be replaced, by their names without the host, in the order
        in which that began."""
        begun = [
            event["resourcePreEvent"]["metadata"] for event in self.events if "resourcePreEvent" in event
        ]
        return [
            each["urn"].rpartition("::")[2].partition("@")[0]
            for each in begun
            if each["op"] in ("delete", "delete-replaced")
        ]

    @property
    def diagnostics(self) -> str:
        """The messages of the engine and the program."""
        messages = [event["diagnosticEvent"] for event in self.events if "diagnosticEvent" in event]
        return "".join(each["message"] for each in messages if each["severity"] != "debug")

    @property
    def unchanged(self) -> int:
        summaries = [event["summaryEvent"] for event in self.events if "summaryEvent" in event]
        return int(summaries[-1]["resourceChanges"].get("same", 0)) if summaries else 0

    def check(self) -> Result:
        """Returns itself if the command succeeded, else raises RuntimeError with its output."""
        if self.returncode:
            raise RuntimeError(f"pulumi failed with status {self.returncode}:\n{self.output}")
        return self


REPLACING = ("replace", "create-replacement", "delete-replaced", "discard-replaced")


class Program:
    """One stack of a private copy of the project. Tests may change the code in `project`; the checkout stays
    unchanged."""

    def __init__(self, folder: Path, stack: str) -> None:
        self.folder = folder
        self.stack = stack
        self.project = folder / "project"
        if not self.project.exists():
            shutil.copytree(PROJECT, self.project, ignore=LEFT_OUT, symlinks=True)
            (self.project / ".venv").symlink_to(sys.prefix)
        for name in ("state", "home", "docker"):
            (folder / name).mkdir(exist_ok=True)
        self.pulumi("stack", "init", stack).check()

    @property
    def environment(self) -> dict[str, str]:
        """An environment without the SSH agent, Docker login and Pulumi account of the user, and without
        downloads."""
        kept = {name: value for name, value in os.environ.items() if name in ("HOME", "LANG", "TMPDIR")}
        return {
            **kept,
            "PATH": f"{Path(sys.prefix) / 'bin'}{os.pathsep}{search_path()}",
            "PYTHONPATH": str(self.project),
            "PYTHONDONTWRITEBYTECODE": "1",
            # Enables the CLI's --event-log, which has its operations as data.
            "PULUMI_DEBUG_COMMANDS": "true",
            "PULUMI_BACKEND_URL": f"file://{self.folder / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": PASSPHRASE,
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "PULUMI_IGNORE_AMBIENT_PLUGINS": "true",
            "DOCKER_CONFIG": str(self.folder / "docker"),
        }

    def command(self, *arguments: str, timeout: float) -> subprocess.CompletedProcess[str]:
        """Runs a command of the user in the project's folder."""
        return subprocess.run(
            arguments,
            cwd=self.project,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    def module(self, name: str, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Runs a module of the project as `python -m` does."""
        return self.command(sys.executable, "-m", name, *arguments, timeout=timeout)

    @property
    def config_file(self) -> Path:
        return self.project / f"Pulumi.{self.stack}.yaml"

    def configure(self, config: dict[str, Any]) -> None:
        """Writes the stack file; keys are without their namespace. Pulumi's own entries stay."""
        document = yaml.safe_load(self.config_file.read_text()) if self.config_file.exists() else {}
        document = document or {}
        document["config"] = {f"gpu-inference:{key}": value for key, value in config.items()}
        self.config_file.write_text(yaml.safe_dump(document, sort_keys=False))

    def stack_config(self) -> dict[str, Any]:
        """The keys of the stack file as it is now, without their namespace."""
        document = yaml.safe_load(self.config_file.read_text())
        return {key.partition(":")[2]: value for key, value in document["config"].items()}

    def encrypt(self, value: str) -> dict[str, str]:
        """A secret in the form of a stack file."""
        self.pulumi("config", "set", "--secret", "gpu-inference:scratch", value).check()
        document = yaml.safe_load(self.config_file.read_text())
        return {"secure": document["config"]["gpu-inference:scratch"]["secure"]}

    def pulumi(self, *arguments: str, timeout: float = 600) -> Result:
        """Runs a Pulumi command to its end."""
        command = self.start(*arguments)
        try:
            return command.wait(timeout)
        finally:
            command.kill()

    def start(self, *arguments: str) -> Command:
        """Starts a Pulumi command. The caller waits for it or kills it."""
        return Command(self, arguments)

    def preview(self, *arguments: str) -> Result:
        return self.pulumi("preview", "--stack", self.stack, *arguments)

    def up(self, *arguments: str) -> Result:
        return self.pulumi("up", "--yes", "--skip-preview", "--stack", self.stack, *arguments)

    def refresh(self, *arguments: str) -> Result:
        return self.pulumi("refresh", "--yes", "--skip-preview", "--stack", self.stack, *arguments)

    def destroy(self) -> Result:
        return self.pulumi("destroy", "--yes", "--skip-preview", "--stack", self.stack)

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs, with secrets in plain text."""
        shown = self.pulumi("stack", "output", "--json", "--show-secrets", "--stack", self.stack).check()
        return dict(json.loads(shown.output))


EVENTFUL = ("preview", "up", "refresh", "destroy")


class Command:
    """A running Pulumi command."""

    def __init__(self, program: Program, arguments: tuple[str, ...]) -> None:
        self._events = program.folder / f"events-{time.monotonic_ns()}.json"
        self._output = self._events.with_suffix(".txt")
        options = ["--event-log", str(self._events)] if arguments[0] in EVENTFUL else []
        self._began = time.monotonic()
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [str(find("pulumi")), *arguments, "--non-interactive", "--color", "never", *options],
                cwd=program.project,
                env=program.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """The output so far."""
        return self._output.read_text(errors="replace")

    def running(self) -> bool:
        return self._process.poll() is None

    def wait(self, timeout: float) -> Result:
        self._process.wait(timeout)
        return self._result()

    def kill(self) -> Result:
        """Ends the command and all its child processes without warning, as a crash of the computer would."""
        started = Process.of(self._process.pid)
        family = [started] if started else []
        for member in family:
            family += member.children()
        for member in family:
            member.send(signal.SIGKILL)
        self._process.wait()
        return self._result()

    def _result(self) -> Result:
        lines = self._events.read_text().splitlines() if self._events.exists() else []
        events = [json.loads(line) for line in lines if line.endswith("}")]
        return Result(self._process.returncode, self.output, time.monotonic() - self._began, events)
