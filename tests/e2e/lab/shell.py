"""The shell of a user who follows the documents: a checkout, a home of its own, and the real commands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.e2e.lab.prerequisites import find, search_path
from tests.e2e.lab.program import LEFT_OUT, PROJECT

#: OpenSSH takes the home from the user's account and not from HOME.
_SSH = """#!/bin/sh
exec {ssh} -F none -i {key} -o UserKnownHostsFile={home}/.ssh/known_hosts -o GlobalKnownHostsFile=/dev/null \\
  -o StrictHostKeyChecking=yes -o BatchMode=yes -o ConnectTimeout=5 "$@"
"""


class Shell:
    """Runs commands of the documents in a copy of the project. `places` are texts of the documents, such as
    addresses, and what stands in their places here."""

    def __init__(self, folder: Path, key: Path, places: Mapping[str, str]) -> None:
        self.places = dict(places)
        self.home = folder / "home"
        self.project = folder / "project"
        self._commands = folder / "commands"
        (self.home / ".ssh").mkdir(parents=True)
        self._commands.mkdir()
        shutil.copytree(PROJECT, self.project, ignore=LEFT_OUT, symlinks=True)
        (self.project / ".venv").symlink_to(sys.prefix)
        ssh = self._commands / "ssh"
        ssh.write_text(_SSH.format(ssh=find("ssh"), key=key, home=self.home))
        ssh.chmod(0o755)
        self.environment = {
            "HOME": str(self.home),
            "LANG": os.environ.get("LANG", "C.UTF-8"),
            "PATH": f"{self._commands}{os.pathsep}{search_path()}",
            "PULUMI_HOME": os.environ.get("PULUMI_HOME", str(Path.home() / ".pulumi")),
            # What the user answers.
            "PULUMI_CONFIG_PASSPHRASE": "a passphrase of yours",
            "PULUMI_SKIP_CONFIRMATIONS": "true",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "PULUMI_BACKEND_URL": f"file://{self.home}/gpu-fleet-state",
            # The environment's `fleet` and `speech` are those of this checkout, as they are for a user.
            "PYTHONPATH": str(self.project),
            "PYTHONDONTWRITEBYTECODE": "1",
            **{f"GIT_{who}_{what}": "e2e" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
        }

    def here(self, text: str) -> str:
        """A text of the documents with what stands in its places here."""
        for documented, real in self.places.items():
            text = text.replace(documented, real)
        return text

    def run(self, text: str, *, answer: str = "", check: bool = True) -> str:
        """The output of commands; `answer` is on their standard input. Raises RuntimeError if one fails."""
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", self.here(text)],
            cwd=self.project,
            env=self.environment,
            input=answer,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=900,
        )
        if check and done.returncode:
            raise RuntimeError(f"status {done.returncode} of:\n{self.here(text)}\n{done.stdout}")
        return done.stdout
