"""The documented example of a stack file is usable and complete."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.stack import types
from infra.stack.load import load_file

pytestmark = pytest.mark.fast

FILE = Path(__file__).parents[2] / "Pulumi.example.yaml"
IN_A_CLUSTER = FILE.parent / "examples" / "kubernetes" / "Pulumi.example.yaml"


def sections() -> Iterator[type[types.Section]]:
    pending = types.Section.__subclasses__()
    while pending:
        section = pending.pop()
        pending += section.__subclasses__()
        yield section


def test_it_is_a_stack_without_mistakes() -> None:
    assert load_file(FILE).nodes
    assert load_file(IN_A_CLUSTER).pools


@pytest.mark.parametrize("section", list(sections()), ids=lambda section: section.__name__)
def test_it_shows_every_key(section: type[types.Section]) -> None:
    shown = "".join(file.read_text(encoding="utf-8") for file in (FILE, IN_A_CLUSTER))
    words = set(re.findall(r"[A-Za-z]+", shown))
    keys = {info.alias or field for field, info in section.model_fields.items()}
    assert not keys - words


def test_its_addresses_are_for_documentation() -> None:
    addresses = re.findall(r"\b[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+\b", FILE.read_text(encoding="utf-8"))
    assert addresses
    network = ipaddress.ip_network("192.0.2.0/24")
    found = [ipaddress.ip_address(address) for address in addresses]
    assert all(address in network or address.is_loopback for address in found)
