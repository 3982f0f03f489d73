"""What all sections of a stack's configuration have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Section(BaseModel):
    """What every section of the configuration has in common: strict types, no unknown keys, immutable."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        strict=True,
        frozen=True,
        use_attribute_docstrings=True,
        arbitrary_types_allowed=True,
        # A bad value is shown by our own messages, and never when it is a secret.
        hide_input_in_errors=True,
    )
