"""A model's `config.pbtxt`: Triton's ModelConfig as protobuf text."""

import itertools
import re
from collections.abc import Iterable
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from inference_service.diagnosis import Interface, Tensor
from infra.models.pbtxt import fields


class Malformed(Exception):
    """The text is not a model configuration. `line` counts from 1, `str(error)` is the reason."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


def parse(text: str) -> Any:
    """Parse an `inference.ModelConfig`. Raises Malformed."""
    if text.startswith("\ufeff"):
        raise Malformed(1, "it begins with a byte order mark, which protobuf does not read")
    config = model_config_pb2.ModelConfig()
    try:
        text_format.Parse(text, config)
    except text_format.ParseError as error:
        reason = str(error).partition(" : ")[2] or str(error)  # after line and column
        raise Malformed(error.GetLine() or 1, _hinted(reason.strip().rstrip("."))) from None
    return config


def _hinted(reason: str) -> str:
    """protobuf's message, with similar field names where it does not know a field."""
    if match := re.search(r'Message type "(inference\.\w+)" has no field named "(\w+)"', reason):
        message = getattr(model_config_pb2, match[1].removeprefix("inference."), None)
        fields = message.DESCRIPTOR.fields_by_name if message else ()
        near = [field for field in fields if match[2].startswith(field[:4])]
        if near:
            return f"{reason}; did you mean {' or '.join(near)}?"
    return reason


def interface(config: Any) -> Interface:
    """The model's tensors as Triton would describe them, the batch dimension included."""
    batch = (-1,) if config.max_batch_size > 0 else ()

    def tensors(described: Iterable[Any]) -> dict[str, Tensor]:
        # An output has no `optional`.
        return {
            each.name: Tensor(
                each.name, datatype(each.data_type), (*batch, *each.dims), getattr(each, "optional", False)
            )
            for each in described
        }

    return Interface(
        tensors(config.input), tensors(config.output), decoupled=config.model_transaction_policy.decoupled
    )


def datatype(value: int) -> str:
    """Triton's name for a tensor's type on the wire: TYPE_STRING is BYTES."""
    name = model_config_pb2.DataType.Name(value).removeprefix("TYPE_")
    return "BYTES" if name == "STRING" else name


def line_of(text: str, path: tuple[str, ...], value: str | None = None, nth: int = 1) -> int | None:
    """The line of the `nth` field at a path of names that has that value (any: None), counted from 1.

    protobuf's parser does not keep positions.
    """
    lines = (line for at, actual, line in fields(text) if at == path and value in (None, actual))
    return next(itertools.islice(lines, nth - 1, None), None)
