"""kubectl, for the cluster and the namespace of a stack."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.kubernetes.kubectl import environment, kubectl, own_words, selector
from infra.stack import Stack

_SECONDS = 30
_FOUND_NOTHING = "NotFound"


class ClusterError(Exception):
    """The cluster does not answer, or refuses; `str(error)` has its words."""


class Kubectl:
    """Runs kubectl. A kubeconfig of the stack file is in a file of this user's while the object lives."""

    def __init__(self, stack: Stack) -> None:
        if shutil.which("kubectl") is None:
            raise ClusterError(
                "kubectl is not on PATH; with target: kubernetes an update asks it how the changed pods are"
            )
        self._stack = stack
        # Nobody but this user reads it.
        self._folder = tempfile.TemporaryDirectory(prefix="fleet-")
        self._environment = environment(stack, Path(self._folder.name))

    def run(self, *arguments: str, given: str | None = None, seconds: float = _SECONDS) -> str:
        """The output of a command. Raises ClusterError."""
        command = kubectl(self._stack, *arguments)
        try:
            done = subprocess.run(
                command,
                input=given,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
                env=self._environment,
            )
        except subprocess.TimeoutExpired:
            raise ClusterError(
                f"the cluster does not answer within {seconds:.0f} s: {arguments[0]}"
            ) from None
        if done.returncode:
            raise ClusterError(
                own_words(done.stderr) or f"kubectl {arguments[0]} ended with {done.returncode}"
            )
        return done.stdout

    def listed(self, kind: str, selecting: Mapping[str, str]) -> list[dict[str, Any]]:
        """The objects of a kind with these labels. Raises ClusterError."""
        found = json.loads(self.run("get", kind, selector(selecting), "--output=json"))
        return list(found["items"])

    def named(self, kind: str, name: str) -> dict[str, Any] | None:
        """The object of a kind and name; None where there is none. Raises ClusterError."""
        try:
            found: dict[str, Any] = json.loads(self.run("get", kind, name, "--output=json"))
        except ClusterError as error:
            if _FOUND_NOTHING in str(error):
                return None
            raise
        return found
