"""Brings an embedded stack up with `pulumi up`, with its state in the project's folder."""

import os
import subprocess
from pathlib import Path

from infra.embedded.errors import EmbeddedError
from infra.paths import PROJECT

#: The dev stack holds no secrets, so its passphrase is public; PULUMI_CONFIG_PASSPHRASE replaces it.
DEV_PASSPHRASE = "dev"


def environment(state: Path) -> dict[str, str]:
    """The CLI's environment: by default a file backend under `state` and the dev passphrase.

    `state` is the folder of all embedded stacks' states.
    """
    chosen = dict(os.environ)
    chosen.setdefault("PULUMI_BACKEND_URL", f"file://{state.absolute() / 'pulumi'}")
    if "PULUMI_CONFIG_PASSPHRASE_FILE" not in chosen:
        chosen.setdefault("PULUMI_CONFIG_PASSPHRASE", DEV_PASSPHRASE)
    chosen.setdefault("PULUMI_SKIP_UPDATE_CHECK", "true")
    return chosen


def up(cli: Path, stack: str, state: Path) -> None:
    """Runs `pulumi up` on the stack, which it creates if necessary. Raises EmbeddedError."""
    (state / "pulumi").mkdir(mode=0o700, parents=True, exist_ok=True)
    _run(cli, state, "stack", "select", "--create", stack)
    _run(cli, state, "up", "--stack", stack, "--yes", "--skip-preview", "--suppress-outputs")


def api_keys(cli: Path, stack: str, state: Path) -> list[str]:
    """The stack's API keys, decrypted. Raises EmbeddedError."""
    done = subprocess.run(
        [str(cli), "config", "get", "gpu-inference:apiKeys", "--stack", stack, "--non-interactive"],
        cwd=PROJECT,
        env=environment(state),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise EmbeddedError(f"the stack's API keys cannot be read: {done.stderr.strip()}")
    return done.stdout.replace(",", " ").split()


def _run(cli: Path, state: Path, *arguments: str) -> None:
    process = subprocess.Popen(
        [str(cli), *arguments, "--non-interactive"], cwd=PROJECT, env=environment(state)
    )
    interrupted = False
    while process.returncode is None:
        try:
            process.wait()
        except KeyboardInterrupt:
            # Pulumi gets the same signal and ends by itself. Killed, it would leave its state locked.
            interrupted = True
    if interrupted:
        raise KeyboardInterrupt
    if process.returncode:
        raise EmbeddedError(
            f"pulumi {arguments[0]} ended with status {process.returncode}; its output is above"
        )
