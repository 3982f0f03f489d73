"""The commands of README.md, docs/deploy.md and docs/fleet.md, as a user runs them one after the other.

The documents' addresses stand for those of two hosts of the laboratory.
"""

import json
import re
import shutil
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.documents import DEPLOY, FLEET, README, SET, block_with, blocks
from tests.e2e.lab.fleet import Fleet
from tests.e2e.lab.host import Host, wait_until
from tests.e2e.lab.images import NGINX_IMAGE, SERVICE_BASE, TRITON_BASE
from tests.e2e.lab.shell import Shell

pytestmark = pytest.mark.long

KEY = "YOUR-KEY"
WORDS = "ask not what your country"
#: The images that the documents' stack files have by default, and those of the laboratory.
BASES = {
    "python:3.11-slim-bookworm": SERVICE_BASE,
    "nvcr.io/nvidia/tritonserver:26.09-py3": TRITON_BASE,
    "nginx:1.28": NGINX_IMAGE,
}


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


def said(shell: Shell, command: str) -> str:
    """The transcript in the answer to a request of the documents."""
    output = shell.run(command.replace("curl ", "curl --silent --show-error "))
    return str(json.loads(output)["data"]["text"])


def lines_of(block: str, *, without: str) -> str:
    """A block without the lines that begin so."""
    return "\n".join(line for line in block.splitlines() if not line.startswith(without))


@pytest.fixture(scope="module")
def hosts(fleet: Fleet, docker_data: Path) -> Iterator[tuple[Host, Host]]:
    """Two hosts whose Docker has the images that the documents' stack files have by default."""
    first, second = (fleet.add(f"docs-{n}", gpu=True, docker_data=docker_data) for n in (1, 2))
    for host in (first, second):
        host.power_on()
    for host in (first, second):
        host.wait_ready()
        for default, here in BASES.items():
            host.docker("tag", here, default)
    yield first, second
    for host in (first, second):
        fleet.hosts.pop(host.name).remove()


def user(fleet: Fleet, hosts: tuple[Host, Host], name: str) -> Shell:
    """A user with a checkout and a home of their own, who may log in to the two hosts."""
    places = {"192.0.2.10": hosts[0].address, "192.0.2.11": hosts[1].address}
    shell = Shell(fleet.folder / name, fleet.operator.key, places)
    # The encoder/decoder pair is the same speech model in a second shape.
    for model in ("whisper-encoder", "whisper-decoder"):
        shutil.rmtree(shell.project / "model_repository" / model)
    # The laboratory has no wheel of cuBLAS, and no GPU that needs it.
    image = shell.project / "docker" / "triton.Dockerfile"
    image.write_text(image.read_text().replace("ARG CUBLAS=bundled", "ARG CUBLAS="))
    return shell


def trust(shell: Shell, block: str) -> None:
    """Makes the keys of both hosts known."""
    for address in shell.places:
        shell.run(block.replace("192.0.2.10", address))


def test_the_command_line_brings_up_the_documented_fleet(fleet: Fleet, hosts: tuple[Host, Host]) -> None:
    shell = user(fleet, hosts, "command-line")
    trust(shell, block_with(DEPLOY, "ssh-keyscan"))
    del shell.environment["PULUMI_BACKEND_URL"], shell.environment["PULUMI_CONFIG_PASSPHRASE"]
    shell.environment["PATH"] = f"{shell.project}/.venv/bin:{shell.environment['PATH']}"

    began = time.monotonic()
    # --yes is the person's answer.
    output = shell.run(block_with(FLEET, "fleet init").replace("deploy -s prod", "deploy -s prod --yes"))
    print(f"init, preview, deploy and status of two hosts: {time.monotonic() - began:.0f} s")
    [key] = re.findall(r"API key of the clients .*: (\S+)$", output, re.M)
    shown = json.loads(shell.run("fleet status -s prod --json"))
    assert [each["state"] for each in shown] == ["healthy"] * 3
    assert WORDS in said(shell, block_with(DEPLOY, "curl -H").replace(KEY, key))
    shell.run("fleet destroy -s prod --yes")
    assert not any(host.containers(everything=True) for host in hosts)


@pytest.fixture(scope="module")
def reader(fleet: Fleet, hosts: tuple[Host, Host]) -> Shell:
    """A user who follows docs/deploy.md. Each test goes on where the one before it ended."""
    shell = user(fleet, hosts, "documents")
    trust(shell, block_with(DEPLOY, "ssh-keyscan"))
    return shell


def test_the_smallest_deployment_of_the_readme_serves(reader: Shell, hosts: tuple[Host, Host]) -> None:
    write_stack(reader, documented(README, "192.0.2.10"))
    began = time.monotonic()
    reader.run(lines_of(block_with(README, "pulumi stack init prod"), without="make setup"))
    print(f"README's deployment of two hosts: {time.monotonic() - began:.0f} s")
    assert WORDS in said(reader, block_with(README, "curl -H").replace("127.0.0.1", hosts[0].address))
    began = time.monotonic()
    again = reader.run("pulumi up")
    print(f"up of two hosts without a change: {time.monotonic() - began:.1f} s")
    assert re.search(r"\d+ unchanged", again) and "changes" not in again
    reader.run("pulumi destroy")
    assert not any(host.containers(everything=True) for host in hosts)


def test_the_first_deployment_serves(reader: Shell) -> None:
    write_stack(reader, documented(DEPLOY, "yaml-language-server"))
    reader.run(block_with(DEPLOY, "pulumi config set --secret gpu-inference:apiKeys  "), answer=KEY)
    assert WORDS in said(reader, block_with(DEPLOY, "curl -H"))
    assert re.search(r"\d+ unchanged", reader.run("pulumi up"))


def test_a_node_is_added_and_drained(reader: Shell) -> None:
    [block] = [each for each in blocks(DEPLOY, "yaml") if each.lstrip().startswith("- name: gpu-2\n")]
    one = yaml.safe_load((reader.project / "Pulumi.prod.yaml").read_text())["config"]["gpu-inference:nodes"]
    write_stack(reader, {"gpu-inference:nodes": [*one, *yaml.safe_load(textwrap.dedent(block))]})
    reader.run("pulumi up")
    assert "~ 1 updated" in reader.run(block_with(DEPLOY, "nodes[1].drained"))
    reader.run("pulumi config set --path 'gpu-inference:nodes[1].drained' false; pulumi up")


def test_a_model_with_another_name_is_served(reader: Shell) -> None:
    model = reader.project / "model_repository" / "emotion"
    shutil.copytree(model, model.with_name("emotion-2"))
    text = (model / "config.pbtxt").read_text()
    (model.with_name("emotion-2") / "config.pbtxt").write_text(
        text.replace('name: "emotion"', 'name: "emotion-2"', 1)
    )
    reader.run(block_with(DEPLOY, "emotion.model_name"))
    assert "emotion-2" in reader.run("pulumi stack output models")


def test_a_failed_version_is_rolled_back_and_reverted(reader: Shell) -> None:
    reader.run("git init --quiet; git add --all; git commit --quiet --message one")
    with (reader.project / "inference_service" / "engine.py").open("a") as code:
        code.write("raise ImportError('a fault')\n")
    reader.run("git commit --quiet --all --message two")
    assert "node gpu-1 runs again what was deployed before" in reader.run("pulumi up", check=False)
    reader.run(block_with(DEPLOY, "git revert"))
    assert WORDS in said(reader, block_with(DEPLOY, "curl -H"))


def test_a_killed_update_is_taken_up_again(reader: Shell) -> None:
    reader.run("pulumi config set --path 'gpu-inference:service.env.MARK' killed")
    reader.run("timeout --signal KILL 12 pulumi up", check=False)
    assert "currently locked" in reader.run("pulumi up", check=False)
    reader.run(block_with(DEPLOY, "pulumi cancel"))
    reader.run(block_with(DEPLOY, "--clear-pending-creates"))
    assert re.search(r"\d+ unchanged", reader.run("pulumi up"))


def test_a_container_that_was_removed_by_hand_is_restored(reader: Shell, hosts: tuple[Host, Host]) -> None:
    hosts[1].docker("rm", "--force", "prod-gpu-2-service")
    reader.run(block_with(DEPLOY, "pulumi refresh  "))
    assert "prod-gpu-2-service" in hosts[1].containers()


def test_the_gateway_is_reloaded_and_balances_connections(reader: Shell, hosts: tuple[Host, Host]) -> None:
    hosts[0].run("sh", "-ec", block_with(DEPLOY, "-s reload"))
    assert WORDS in reader.run(block_with(DEPLOY, "grpcBalancing"))


def test_an_image_is_carried_from_host_to_host(reader: Shell) -> None:
    image = json.loads(reader.run("pulumi stack output images --json"))["service"]
    reader.run(re.sub(r"gpu-inference/service:\w+", image, block_with(DEPLOY, "docker save")))


def test_a_host_that_is_down_is_left_out_and_then_given_up(reader: Shell, hosts: tuple[Host, Host]) -> None:
    second = hosts[1]
    nodes = yaml.safe_load((reader.project / "Pulumi.prod.yaml").read_text())["config"]["gpu-inference:nodes"]
    second.cut()
    assert "skipped" in reader.run(block_with(DEPLOY, "rollout.unreachable"))
    second.restore()
    reader.run("pulumi config rm --path gpu-inference:rollout.unreachable; pulumi up")
    second.cut()
    write_stack(reader, {"gpu-inference:nodes": nodes[:1]})
    skip = "pulumi config set --path gpu-inference:rollout.unreachable skip; pulumi up"
    assert "gpu-2" in reader.run(skip, check=False)
    reader.run(block_with(DEPLOY, "pulumi state delete"))
    second.restore()
    wait_until("the host answers", lambda: "root" in reader.run("ssh root@192.0.2.11 whoami", check=False))
    reader.run(block_with(DEPLOY, "docker rm -f"))
    assert not second.containers(everything=True)
    reader.run(block_with(DEPLOY, "image prune"))
    assert "gpu-inference/service" not in second.docker("images").stdout
    reader.run("pulumi destroy")
    assert not hosts[0].containers(everything=True)


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
