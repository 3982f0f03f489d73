"""The values that a person encrypted in a stack file (`pulumi config set --secret`), under any key.

Pulumi decrypts them for the program and says only which top-level keys hold some. Which values they are
stands in the file.
"""

import functools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from infra.stack.problems import Problem
from infra.stack.types import Stack

_HIDDEN = "[secret]"
_BUILD_ARGUMENT = "cannot be encrypted: an image shows its build arguments to everyone who has it"
_IN_NAMES = "cannot be encrypted: the names of resources and containers contain it"
_REFUSED = {
    re.compile(r"\.build\.args\."): _BUILD_ARGUMENT,
    re.compile(
        r"^(nodes\[\d+\](\.name|\.host)?|gateway\.hosts?(\[\d+\])?|monitoring\.host|triton\.shmSize|target)$"
    ): _IN_NAMES,
}
#: Keys that others of the file require. Pulumi's program alone needs their values, so that commands without
#: Pulumi put a text in their place.
_REQUIRED = re.compile(r"^monitoring\.(grafana\.password|alertmanager\.email\.(username|password))$")
_IN_PLACE = "encrypted-not-known-here"
# A shorter secret is hidden only where it is the whole value: else it would be part of most values by chance.
_SHORTEST_PART = 4


def is_encrypted(value: Any) -> bool:
    """Whether a value of the file is what `pulumi config set --secret` writes."""
    return isinstance(value, dict) and value.keys() == {"secure"}


def without(value: Any, path: str, encrypted: list[str]) -> Any:
    """`value` without encrypted values and lists that hold one; adds their paths to `encrypted`.

    Where another key requires one, a text is in its place.
    """
    if isinstance(value, dict):
        kept = {}
        for key, inner in value.items():
            inner_path = f"{path}.{key}" if path else str(key)
            if any(is_encrypted(each) for each in (inner if isinstance(inner, list) else [inner])):
                encrypted.append(inner_path)
                if _REQUIRED.search(inner_path):
                    kept[key] = _IN_PLACE
            else:
                kept[key] = without(inner, inner_path, encrypted)
        return kept
    if isinstance(value, list):
        return [without(inner, f"{path}[{i}]", encrypted) for i, inner in enumerate(value)]
    return value


def refusals(paths: Mapping[str, Any] | list[str]) -> Iterator[Problem]:
    """A problem for each path of an encrypted value that would not stay secret."""
    for path in paths:
        for pattern, reason in _REFUSED.items():
            if pattern.search(path):
                yield Problem(path, reason)


def values(written: Any, value: Any, path: str) -> dict[str, str]:
    """The encrypted texts under a key of the file, by path. `value` is the key's value, decrypted.

    If the file holds something else than `value`, because the values are from elsewhere, every text under the
    key counts as encrypted, except those that could not stay secret.
    """
    if _agree(written, value):
        return dict(_encrypted(written, value, path))
    return {path: text for path, text in _texts(value, path) if not list(refusals([path]))}


def secrets(found: Mapping[str, str]) -> tuple[str, ...]:
    """The texts to hide, the longest first. A word that a key offers as a choice tells nothing."""
    kept = {text for text in found.values() if text.strip()} - _choices()
    return tuple(sorted(kept, key=lambda text: (-len(text), text)))


def hides(value: Any, secrets: tuple[str, ...]) -> bool:
    """Whether a secret is in a value, at any depth, also as a part of a text or of JSON in a text."""
    if isinstance(value, str):
        return any(
            form == value or (len(secret) >= _SHORTEST_PART and form in value)
            for secret in secrets
            for form in _forms(secret)
        )
    if isinstance(value, Mapping):
        return any(hides(each, secrets) for pair in value.items() for each in pair)
    if isinstance(value, list | tuple | set | frozenset):
        return any(hides(each, secrets) for each in value)
    # The typed arguments of Pulumi's resources.
    inner = vars(value) if type(value).__module__.startswith("pulumi_") else None
    return inner is not None and hides(inner, secrets)


def masked(text: str, secrets: tuple[str, ...]) -> str:
    """A message without the secrets in it."""
    for secret in secrets:
        for form in _forms(secret):
            # Messages quote the first 79 characters of a long value.
            for part in {form, form[:79]}:
                if len(secret) >= _SHORTEST_PART:
                    text = text.replace(part, _HIDDEN)
                else:
                    text = text.replace(f'"{part}"', _HIDDEN)
    return text


@functools.cache
def _forms(secret: str) -> tuple[str, ...]:
    """A secret as it is, and as a regular expression (in nginx's configuration), both also inside JSON."""
    forms = (secret, re.escape(secret))
    quoted = (json.dumps(form, ensure_ascii=only)[1:-1] for form in forms for only in (False, True))
    return tuple(dict.fromkeys((*forms, *quoted)))


@functools.cache
def _choices() -> frozenset[str]:
    """The words between which keys of a stack choose."""

    def words(part: Any) -> Iterator[str]:
        if isinstance(part, dict):
            yield from (word for word in (*part.get("enum", ()), part.get("const")) if isinstance(word, str))
            for inner in part.values():
                yield from words(inner)
        elif isinstance(part, list):
            for inner in part:
                yield from words(inner)

    return frozenset(words(Stack.model_json_schema()))


def _agree(written: Any, value: Any) -> bool:
    """Whether `value` is what the file holds, as far as the file can be read."""
    if is_encrypted(written):
        return True
    if isinstance(written, dict) and isinstance(value, dict):
        return written.keys() == value.keys() and all(_agree(written[key], value[key]) for key in value)
    if isinstance(written, list) and isinstance(value, list):
        return len(written) == len(value) and all(map(_agree, written, value))
    return bool(written == value)


def _encrypted(written: Any, value: Any, path: str) -> Iterator[tuple[str, str]]:
    if is_encrypted(written):
        yield from _texts(value, path)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _encrypted(written[key], inner, f"{path}.{key}")
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from _encrypted(written[position], inner, f"{path}[{position}]")


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every text under a value, by path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from _texts(inner, f"{path}[{position}]")
