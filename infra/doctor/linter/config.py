"""A model's `config.pbtxt`: Triton's ModelConfig as protobuf text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from inference_service.runtimes.triton.contract import Interface, Tensor

_AT = re.compile(r"(\d+):\d+ : (.*)", re.DOTALL)


class Malformed(Exception):
    """The text is no model configuration; `line` counts from 1, `str(error)` says what is wrong there."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


def parse(text: str) -> Any:
    """The `inference.ModelConfig` that the text is. Raises Malformed."""
    config = model_config_pb2.ModelConfig()
    try:
        text_format.Parse(text, config)
    except text_format.ParseError as error:
        match = _AT.match(str(error))
        reason = (match[2] if match else str(error)).strip().rstrip(".")
        raise Malformed(int(match[1]) if match else error.GetLine() or 1, _hinted(reason)) from None
    return config


def _hinted(reason: str) -> str:
    """protobuf's words, with the field names that are there where it knows none of that name."""
    if match := re.search(r'Message type "(inference\.\w+)" has no field named "(\w+)"', reason):
        message = getattr(model_config_pb2, match[1].removeprefix("inference."), None)
        near = [
            f for f in (message.DESCRIPTOR.fields_by_name if message else ()) if match[2].startswith(f[:4])
        ]
        if near:
            return f"{reason}; did you mean {' or '.join(near)}?"
    return reason


def interface(config: Any) -> Interface:
    """The model's tensors as Triton would describe them, the batch dimension included."""
    batch = (-1,) if config.max_batch_size > 0 else ()

    def tensors(described: Iterable[Any]) -> dict[str, Tensor]:
        return {
            tensor.name: Tensor(
                tensor.name,
                datatype(tensor.data_type),
                (*batch, *tensor.dims),
                getattr(tensor, "optional", False),
            )
            for tensor in described
        }

    return Interface(tensors(config.input), tensors(config.output))


def datatype(value: int) -> str:
    """Triton's name for a tensor's type on the wire: TYPE_STRING is BYTES."""
    name = model_config_pb2.DataType.Name(value).removeprefix("TYPE_")
    return "BYTES" if name == "STRING" else name


def line_of(text: str, pattern: str) -> int | None:
    """The first line that matches, counted from 1."""
    for number, line in enumerate(text.splitlines(), start=1):
        if re.search(pattern, line.partition("#")[0]):
            return number
    return None


def line_of_tensor(text: str, names: Sequence[str]) -> int | None:
    """The line that names one of these tensors."""
    alternatives = "|".join(map(re.escape, names))
    return line_of(text, rf"""name\s*:\s*["']({alternatives})["']""") if names else None
