"""The mistakes in a configuration, each with the path of its key."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from infra.stack.shown import shown


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: the key's path (`nodes[1].host`) and what was expected."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class StackError(Exception):
    """A configuration that cannot be used; `problems` has every mistake in it, in the order of the keys."""

    def __init__(self, problems: Iterable[Problem], source: str = "the stack's configuration") -> None:
        self.problems = list(dict.fromkeys(problems))
        self.source = source
        count = len(self.problems)
        errors = "1 error" if count == 1 else f"{count} errors"
        super().__init__(
            "\n".join([f"{source} has {errors}:", *(f"  {problem}" for problem in self.problems)])
        )


# What is expected where pydantic reports an error of this type; `{}` are values of the error's context.
_EXPECTED = {
    "string_type": "text",
    "string_too_short": "text",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "finite_number": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
    "literal_error": "{expected}",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
}
# An error about one of these does not show the value.
_SECRET = re.compile(r"^apiKeys|\.(token|password|webhook)$|^models\.credentials\.")


def _path(location: Iterable[str | int], prefix: str) -> str:
    path = prefix
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part}" if path else part
    return path


def unknown_key(path: str, key: object, allowed: Iterable[str]) -> Problem:
    """An unknown key, with the most similar known one as a hint."""
    allowed = sorted(allowed)
    folded = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in allowed}
    near = difflib.get_close_matches(re.sub(r"[^a-z0-9]", "", str(key).lower()), folded, n=1, cutoff=0.6)
    hint = f'did you mean "{folded[near[0]]}"?' if near else f"expected one of {', '.join(allowed)}"
    return Problem(_path([str(key)], path), f"unknown key; {hint}")


def _keys_at(model: type[BaseModel], location: Iterable[str | int]) -> list[str]:
    """The keys of the section at `location` under `model`."""
    current: type[BaseModel] = model
    for part in location:
        for name, info in current.model_fields.items():
            if part in (info.alias, name):
                section = section_in(info.annotation)
                if section is not None:
                    current = section
    return [info.alias or name for name, info in current.model_fields.items()]


def section_in(annotation: Any) -> type[BaseModel] | None:
    """The section in an annotation such as `list[Node]` or `Tls | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if (section := section_in(argument)) is not None:
            return section
    return None


def from_validation(error: ValidationError, model: type[BaseModel], prefix: str = "") -> list[Problem]:
    """Translates pydantic's errors: each names the key, the allowed values and the given one."""
    problems = []
    for detail in error.errors(include_url=False):
        kind, location = detail["type"], detail["loc"]
        path = _path(location, prefix)
        given = "…" if _SECRET.search(path) else detail.get("input")
        context: Mapping[str, Any] = detail.get("ctx", {})
        if kind == "default_factory_not_called":
            continue  # The field that the default depends on has an error of its own.
        if kind in ("extra_forbidden", "invalid_key"):
            *outer, key = location
            problems.append(unknown_key(_path(outer, prefix), key, _keys_at(model, outer)))
        elif location and location[-1] == "[key]":
            problems.append(Problem(_path(location[:-1], prefix), "expected text for a key"))
        elif kind == "missing":
            problems.append(Problem(path, "required"))
        elif kind == "value_error":
            problems.append(Problem(path, str(context["error"])))
        elif kind == "string_pattern_mismatch":
            problems.append(Problem(path, f"expected {_pattern(context['pattern'])}, got {shown(given)}"))
        elif kind in _EXPECTED:
            expected = _EXPECTED[kind].format(**context).replace("'", "")
            problems.append(Problem(path, f"expected {expected}, got {shown(given)}"))
        else:
            problems.append(Problem(path, f"{detail['msg']}, got {shown(given)}"))
    return problems


_PATTERNS = {
    r"(\.[a-z0-9](": "a DNS name of lower-case letters, digits, hyphens and dots",
    r")/[A-Za-z0-9](": "an extended resource such as nvidia.com/gpu",
    "[A-Za-z0-9_.-]{0,61}": "what a label may hold: letters, digits or any of - _ . (at most 63)",
    r"[0-9]+(\.[0-9]+)?": "CPUs such as 2, 0.5 or 500m",
    "[a-z0-9]": "lower-case letters, digits and hyphens (at most 63)",
    "A-Za-z0-9_.:-": "a host name or an IP address",
    "A-Za-z0-9_.@-]{1,15}": "the name of a network interface (at most 15 letters, digits or any of _ . @ -)",
    "/[A-Za-z0-9_./+@:,=-]": "an absolute path without blanks",
    "(:[0-9]+)?": "a registry's name, such as nvcr.io or registry.example.com:5000",
    "(h|d|w|y)": "a number of hours, days, weeks or years, such as 15d",
    "[0-9]{1,5}$": "a server and its port, such as mail.example.com:587",
    "https?": "http://host[:port] or https://host[:port]",
    "host|sync": "host, sync, s3://…, gs://… or as://… (in a cluster also claim://… or image://…)",
}


def _pattern(pattern: str) -> str:
    return next((words for part, words in _PATTERNS.items() if part in pattern), f"text like {pattern}")
