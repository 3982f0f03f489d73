"""The commands of README.md and docs/deploy.md that need no host, as a user runs them one after the other."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.documents import DEPLOY, README, SET, block_with, blocks
from tests.e2e.lab.shell import Shell

pytestmark = pytest.mark.long


def documented(document: Path, text: str) -> dict[str, Any]:
    """The keys of the only stack file of a document that has this text."""
    [found] = [block for block in blocks(document, "yaml") if text in block]
    return dict(yaml.safe_load(found)["config"])


def write_stack(shell: Shell, config: dict[str, Any]) -> None:
    """Writes the stack file, as far as Pulumi has not."""
    file = shell.project / "Pulumi.prod.yaml"
    document = (yaml.safe_load(file.read_text()) if file.exists() else {}) or {}
    document["config"] = {**document.get("config", {}), **config}
    file.write_text(shell.here(yaml.safe_dump(document, sort_keys=False)))


def test_settings_and_state_are_handled_as_documented(tmp_path: Path) -> None:
    shell = Shell(tmp_path, tmp_path / "no-key", {"/srv/gpu-fleet-state": str(tmp_path / "shared")})
    (tmp_path / "shared").mkdir()
    file = shell.project / "Pulumi.prod.yaml"

    # README.md: the smallest deployment, without the set-up and as far as it needs no host
    write_stack(shell, documented(README, "192.0.2.10"))
    smallest = block_with(README, "pulumi stack init prod").splitlines()
    assert (smallest[0], smallest[-1].split()[:2]) == ("make setup", ["pulumi", "up"])
    previewed = shell.run("\n".join(smallest[1:-1]))
    assert "192-0-2-11-triton@192.0.2.11" in previewed and "192-0-2-11-model-asr@192.0.2.11" in previewed
    write_stack(shell, documented(DEPLOY, "yaml-language-server"))

    # What sets a key, in blocks that then update
    nodes = [{"name": f"gpu-{n}", "host": f"ssh://root@192.0.2.1{n}"} for n in range(2)]
    write_stack(shell, {"gpu-inference:nodes": nodes})
    for text in SET:
        lines = block_with(DEPLOY, text).splitlines()
        shell.run("\n".join(line for line in lines if line.startswith("pulumi config set")))
    assert "to create" in shell.run("pulumi preview")

    # Secrets: each line asks for one value
    (shell.project / "keys").write_text("first-key,second-key")
    secrets = block_with(DEPLOY, "HF_TOKEN").splitlines()
    said = [shell.run(line, answer="a-hidden-value") for line in secrets]
    assert said[-1].strip() == "first-key,second-key"
    for line in block_with(DEPLOY, "images.registry").splitlines():
        shell.run(line, answer="a-hidden-value")
    shell.run(block_with(DEPLOY, "images.logins[0]"), answer="a-hidden-value")
    assert "a-hidden-value" not in file.read_text() and "first-key" not in file.read_text()
    kept = shell.run("pulumi config get gpu-inference:apiKeys")
    shell.run(
        "pulumi config rm gpu-inference:images; pulumi config rm --path gpu-inference:models.credentials"
    )

    # Teams and shared state
    assert "to create" in shell.run(block_with(DEPLOY, "pulumi stack export"))
    shell.environment["PULUMI_BACKEND_URL"] = f"file://{tmp_path / 'shared'}"
    salt = yaml.safe_load(file.read_text())["encryptionsalt"]
    shell.run(block_with(DEPLOY, "change-secrets-provider"), answer="a new one\na new one\n")
    assert yaml.safe_load(file.read_text())["encryptionsalt"] != salt
    shell.environment["PULUMI_CONFIG_PASSPHRASE"] = "a new one"
    assert shell.run("pulumi config get gpu-inference:apiKeys") == kept

    # Coming from the original deployment script
    (shell.project / "nodes.txt").write_text("192.0.2.20:51304\n192.0.2.21:22\n")
    (shell.project / "upstreams.txt").write_text("192.0.2.20:51312\n192.0.2.21:8800\n")
    assert "wrote Pulumi.site.yaml" in shell.run(block_with(DEPLOY, "import-script"))

    # An air-gapped site
    plugins = shell.home / ".pulumi" / "plugins"
    plugins.mkdir(parents=True)
    version = "resource-command-v1.2.1"
    shutil.copytree(Path(shell.environment["PULUMI_HOME"]) / "plugins" / version, plugins / version)
    install = block_with(DEPLOY, "pulumi plugin install").splitlines()
    shell.run(install[0])
    shell.environment["PULUMI_HOME"] = str(tmp_path / "another")
    shell.run("\n".join(install[1:]))
    assert (tmp_path / "another" / "plugins" / version).is_dir()
