"""Secrets in every key of the stack file that may have one, by the schema: the real CLI shows none."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.stack import StackError, parse
from tests.e2e.deployment import API_KEY, Site
from tests.e2e.lab.program import Program, Result
from tests.infra.planted import PLACES, Key, base, planted, put
from tests.infra.planted_on_hosts import HERE


@dataclass
class Planted:
    """A stack with secrets: its keys before and with them; key, text and mark of each secret by its place."""

    base: dict[str, Any]
    config: dict[str, Any]
    secrets: dict[str, tuple[Key, str, str]] = field(default_factory=dict)

    def found_in(self, text: str) -> set[str]:
        """The places of the secrets whose marks are in a text."""
        return {place for place, (_, _, mark) in self.secrets.items() if mark in text}

    def add(self, place: str, key: Key, secret: str, mark: str, folder: Path) -> bool:
        """Adds a secret unless it excludes an earlier one; tells whether it did."""
        config = self.config
        if key[-1] == "dockerfile":
            config = put(config, (*key[:-1], "context"), str(folder))
        if key == ("models", "path"):
            config = put(config, ("models", "source"), "sync")
        try:
            config = put(config, key, secret)
            parse(config, "planted")
            if any(at(config, earlier) != text for earlier, text, _ in self.secrets.values()):
                return False
        except (StackError, AttributeError, TypeError, KeyError):
            return False
        self.config = config
        self.secrets[place] = key, secret, mark
        return True


def at(config: Any, key: Key) -> Any:
    """The value at a key; the last one of a list."""
    for step in key:
        config = config[-1] if isinstance(config, list) and step == 0 and key[0] != "nodes" else config[step]
    return config


def stacks(folder: Path) -> list[Planted]:
    """As few stacks as have a secret in every place together."""
    found: list[Planted] = []
    for number, (place, (key, pattern)) in enumerate(PLACES.items()):
        mark = f"planted{number:03}x"
        secret = planted(key, pattern, folder, mark, 100 + number)
        if key[-1] == "dockerfile":
            secret = f"{mark}-Dockerfile"
            (folder / secret).write_text("FROM scratch\n")
        mark = mark if mark in secret else secret.partition("/")[0]
        own = base(key)
        for stack in found:
            if stack.base == own and stack.add(place, key, secret, mark, folder):
                break
        else:
            stack = Planted(own, own)
            assert stack.add(place, key, secret, mark, folder), place
            found.append(stack)
    return found


def encrypted(program: Program, stack: Planted) -> dict[str, Any]:
    """The keys of the stack file, with every secret encrypted by the CLI."""
    secrets = list(stack.secrets.values())
    program.configure({})
    arguments = [
        part
        for number, (_, text, _) in enumerate(secrets)
        for part in ("--secret", f"gpu-inference:s{number}={text}")
    ]
    program.pulumi("config", "set-all", "--stack", program.stack, *arguments).check()
    written = yaml.safe_load(program.config_file.read_text())["config"]
    config = stack.config
    for number, (key, _, _) in enumerate(secrets):
        config = replaced(config, key, {"secure": written[f"gpu-inference:s{number}"]["secure"]})
    return config


def replaced(config: dict[str, Any], key: Key, value: Any) -> dict[str, Any]:
    copied: dict[str, Any] = json.loads(json.dumps(config))
    inner = at(copied, key[:-1])
    inner[-1 if isinstance(inner, list) else key[-1]] = value
    return copied


def told(result: Result) -> str:
    """All that a command said: its output and its log of events."""
    return result.output + json.dumps(result.events, ensure_ascii=False)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return Program(tmp_path_factory.mktemp("planted") / "pulumi", "planted")


@pytest.mark.long
def test_previews_show_no_encrypted_text_of_any_key(program: Program, tmp_path: Path) -> None:
    first, *others = stacks(tmp_path)
    for stack in (first, *others):
        program.configure(encrypted(program, stack))
        assert stack.found_in(told(program.preview("--diff").check())) == set()
    program.configure(encrypted(program, first))
    with_secrets = told(program.preview("--diff", "--show-secrets").check())
    assert len(first.found_in(with_secrets)) > 20, "the test would find one"


@pytest.mark.long
def test_an_update_keeps_every_secret_where_it_belongs(site: Site, tmp_path: Path) -> None:
    stack = Planted(site.config, site.config)
    for number, (place, (text, _)) in enumerate(HERE.items()):
        key, mark = PLACES[place][0], f"planted{number:03}x"
        file = tmp_path / mark
        if "{file}" in text:
            shutil.copy(at(site.config, key), file)
        planted_text = text.format(mark=mark, number=100 + number, file=file)
        stack.secrets[place] = key, planted_text, mark if mark in planted_text else planted_text
        stack.config = put(
            {**stack.config, "apiKeys": []} if place == "apiKeys.0" else stack.config, key, planted_text
        )
    config = encrypted(site.program, stack)
    # The tests' own key, which `ask` sends, stays.
    config["apiKeys"] = [site.program.encrypt(API_KEY), *config["apiKeys"]]
    site.config = config

    said = {
        "preview": told(site.preview().check()),
        "up": told(site.up().check()),
        "preview of nothing": told(site.program.preview("--diff").check()),
        "export": site.program.pulumi("stack", "export", "--stack", site.program.stack).check().output,
    }
    assert {what: found for what, text in said.items() if (found := stack.found_in(text))} == {}
    shown = site.program.pulumi("stack", "export", "--show-secrets", "--stack", site.program.stack)
    assert stack.found_in(shown.check().output) == HERE.keys(), "the state has all of them, encrypted"

    assert "emotions" in site.ask()
    holders: dict[str, set[str]] = {place: set() for place in HERE}
    for host in site.fleet.hosts.values():
        for name in host.containers(everything=True):
            for place in stack.found_in(host.docker("inspect", name).stdout):
                holders[place].add(name.rpartition("-")[2])
    assert holders == {place: parts for place, (_, parts) in HERE.items()}
