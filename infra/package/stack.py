"""A stack (`infra.stack`) from the arguments of a component."""

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
from pydantic import BaseModel

from infra.stack import Stack, parse
from infra.stack.problems import section_in


def stack_of(args: Mapping[str, Any], name: str) -> Stack:
    """The stack with these settings, keys in snake_case, checked as a whole. Raises StackError."""
    # Each component is deployed alone, so there is no authority for nodes and gateway.
    return parse({**_in_camel_case(Stack, args), "tls": {"nodes": False}}, name)


def secret_list(given: pulumi.Input[Sequence[pulumi.Input[str]]]) -> pulumi.Output[list[str]]:
    """A list as a secret."""
    return pulumi.Output.secret(given).apply(lambda values: [str(each) for each in values])


def _in_camel_case(section: type[BaseModel], args: Mapping[str, Any]) -> dict[str, Any]:
    """A section's settings with the keys of a stack file. The keys in `env` and the like stay as they are."""
    result = {}
    for name, value in args.items():
        field = section.model_fields.get(name)
        inner = section_in(field.annotation) if field is not None else None
        result[field.alias or name if field is not None else name] = _value(inner, value)
    return result


def _value(section: type[BaseModel] | None, value: Any) -> Any:
    if isinstance(value, Mapping) and section is not None:
        return _in_camel_case(section, value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_value(section, each) for each in value]
    # Other languages send every number as a float.
    return int(value) if isinstance(value, float) and value.is_integer() else value
