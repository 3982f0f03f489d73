"""The base of all sections of a stack's configuration."""

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Section(BaseModel):
    """A section of the configuration: strict types, no unknown keys, immutable."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        strict=True,
        frozen=True,
        use_attribute_docstrings=True,
        arbitrary_types_allowed=True,
        # `problems` quotes wrong values, except secrets.
        hide_input_in_errors=True,
    )
