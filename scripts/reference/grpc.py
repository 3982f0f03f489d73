"""The gRPC API, from the comments of `ai_service.proto`."""

import tempfile
from importlib.resources import files
from pathlib import Path

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

from infra.paths import PACKAGE
from scripts.reference import markdown

_FOLDER = PACKAGE / "inference_service" / "grpc_api"
_FILE = "ai_service.proto"
#: The numbers by which a descriptor names its parts: messages and services of a file, methods of a service,
#: fields of a message.
_MESSAGES, _SERVICES, _METHODS, _FIELDS = 4, 6, 2, 2
_OWN = ".grpc."

_HEAD = f"""\
# gRPC API

The calls and messages of the node's API, which the gateway offers, too. The file for your own clients:
[{_FILE}](../../inference_service/grpc_api/{_FILE}). Servers also answer reflection and
`grpc.health.v1.Health`. Send the API key as the metadata `x-api-key`.
[streaming.md](../streaming.md) explains live audio.
"""


def page() -> str:
    """The page as Markdown. Raises RuntimeError where protoc refuses the file."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "set")
        given = [f"-I{_FOLDER}", f"-I{files('grpc_tools') / '_proto'}", "--include_source_info"]
        if protoc.main(["protoc", *given, f"--descriptor_set_out={out}", _FILE]):
            raise RuntimeError("protoc failed; its reason is above")
        [file] = FileDescriptorSet.FromString(out.read_bytes()).file
    said = {
        tuple(each.path): " ".join((each.leading_comments or each.trailing_comments).split())
        for each in file.source_code_info.location
    }
    parts = [_HEAD]
    for number, service in enumerate(file.service):
        rows = [
            [
                markdown.code(method.name),
                ("stream of " if method.client_streaming else "") + _type(method.input_type),
                ("stream of " if method.server_streaming else "") + _type(method.output_type),
                markdown.cell(said.get((_SERVICES, number, _METHODS, at), "")),
            ]
            for at, method in enumerate(service.method)
        ]
        parts += [f"## {file.package}.{service.name}", markdown.table(("call", "takes", "gives", ""), rows)]
    for number, message in enumerate(file.message_type):
        parts.append(_message(message, number, said))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _message(message: DescriptorProto, number: int, said: dict[tuple[int, ...], str]) -> str:
    rows = [
        [
            str(field.number),
            markdown.code(field.name),
            _field(field, message),
            markdown.cell(said.get((_MESSAGES, number, _FIELDS, at), "")),
        ]
        for at, field in enumerate(message.field)
    ]
    text = said.get((_MESSAGES, number), "")
    return f"## {message.name}\n\n{text}\n\n{markdown.table(('number', 'field', 'type', ''), rows)}"


def _field(field: FieldDescriptorProto, message: DescriptorProto) -> str:
    for nested in message.nested_type:
        if nested.options.map_entry and field.type_name.endswith(f".{nested.name}"):
            key, value = nested.field
            return f"map from {_scalar(key)} to {_scalar(value)}"
    repeated = field.label == FieldDescriptorProto.LABEL_REPEATED
    return ("list of " if repeated else "") + _scalar(field)


def _scalar(field: FieldDescriptorProto) -> str:
    if field.type_name:
        return _type(field.type_name)
    return FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()


def _type(name: str) -> str:
    if name.startswith(_OWN):
        own = name.removeprefix(_OWN)
        return f"[{own}](#{markdown.anchor(own)})"
    return markdown.code(name.lstrip("."))
