"""The blocks of commands of docs/deploy.md, each with the test that runs it or the reason why none does.

`tests/test_documents.py` holds this table and the document together.
"""

from __future__ import annotations

import re
from pathlib import Path

from infra.paths import PROJECT

DEPLOY = PROJECT / "docs" / "deploy.md"
README = PROJECT / "README.md"
FLEET = PROJECT / "docs" / "fleet.md"
_FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.S | re.M)

_HERE = "tests/e2e/test_9_documents.py::"
_SETTINGS = f"{_HERE}test_settings_and_state_are_handled_as_documented"


def blocks(document: Path, language: str) -> list[str]:
    """The fenced blocks of a document in a language, without their indentation."""
    found = _FENCE.findall(document.read_text())
    return [
        "\n".join(line.removeprefix(indent) for line in text.splitlines())
        for indent, kind, text in found
        if kind == language
    ]


def block_with(document: Path, text: str) -> str:
    """The only shell block of a document that has this text."""
    [found] = [block for block in blocks(document, "sh") if text in block]
    return found


#: A text in a shell block of docs/deploy.md, and the test that runs the whole block as it is written.
RUN: dict[str, str] = {
    "pulumi config set --secret gpu-inference:apiKeys  ": f"{_HERE}test_the_first_deployment_serves",
    "curl -H": f"{_HERE}test_the_first_deployment_serves",
    "nodes[1].drained": f"{_HERE}test_a_node_is_added_and_drained",
    "emotion.model_name": f"{_HERE}test_a_model_with_another_name_is_served",
    "git revert": f"{_HERE}test_a_failed_version_is_rolled_back_and_reverted",
    "pulumi cancel": f"{_HERE}test_a_killed_update_is_taken_up_again",
    "--clear-pending-creates": f"{_HERE}test_a_killed_update_is_taken_up_again",
    "pulumi refresh  ": f"{_HERE}test_a_container_that_was_removed_by_hand_is_restored",
    "-s reload": f"{_HERE}test_the_gateway_is_reloaded_and_balances_connections",
    "grpcBalancing": f"{_HERE}test_the_gateway_is_reloaded_and_balances_connections",
    "docker save": f"{_HERE}test_an_image_is_carried_from_host_to_host",
    "ssh-keyscan": f"{_HERE}test_the_command_line_brings_up_the_documented_fleet",
    **dict.fromkeys(
        ("rollout.unreachable", "pulumi state delete", "docker rm -f", "image prune"),
        f"{_HERE}test_a_host_that_is_down_is_left_out_and_then_given_up",
    ),
    **dict.fromkeys(
        (
            "pulumi stack export",
            "HF_TOKEN",
            "change-secrets-provider",
            "images.registry",
            "images.logins[0]",
            "import-script",
            "pulumi plugin install",
        ),
        _SETTINGS,
    ),
}
#: Blocks that set a key and update. The test of the settings sets the key in the same way, and previews; the
#: named file of tests/e2e makes the same change on hosts, through its own stack file.
SET: dict[str, str] = {
    "ports.http": "test_2_changes.py",
    "rollout.takeOver": "test_7_takeover.py",
}
#: Blocks that no test runs as they are written, with the reason and the test that comes closest.
NOT_RUN: dict[str, str] = {
    "make setup": "downloads all packages; tests/test_environment.py tests its script, and the test of RUN "
    "runs the other commands, which README.md has too",
    "stack output nodes": "the hosts of the tests have private addresses; test_7_tls.py sets tls.nodes, and "
    "makes the same update and requests",
    "pulumi package add": "needs the CLI's generators of languages; tests/infra/test_package.py tests the "
    "package",
}
