"""The messages between this process and those that decode: a kind, a length, and the content."""

import socket
import struct

#: To the decoder: the job, bytes of the recording, its end.
JOB, DATA, END = b"J", b"D", b"Z"
#: From the decoder: a block of the waveform, "more bytes are needed", an error, the end, and its process id.
BLOCK, MORE, ERROR, DONE, STARTED = b"B", b"M", b"X", b"E", b"P"

_HEADER = struct.Struct("=cI")
HEADER_BYTES = _HEADER.size

#: Bytes of a message's content. Longer data is sent in pieces.
MAX_CONTENT = 1 << 20


def packed(kind: bytes, content: bytes | memoryview = b"") -> bytes:
    """Return the message as bytes."""
    return _HEADER.pack(kind, len(content)) + bytes(content)


def unpacked(header: bytes) -> tuple[bytes, int]:
    """Return the kind of a message, and the length of its content, from its first `HEADER_BYTES`."""
    kind, length = _HEADER.unpack(header)
    return kind, length


def send(connection: socket.socket, kind: bytes, content: bytes | memoryview = b"") -> None:
    """Send a message. Raises OSError if the other side is gone."""
    connection.sendall(_HEADER.pack(kind, len(content)))
    if len(content):
        connection.sendall(content)


def receive(connection: socket.socket) -> tuple[bytes, bytearray] | None:
    """Return the next message, None if the other side is gone."""
    header = _exactly(connection, HEADER_BYTES)
    if header is None:
        return None
    kind, length = unpacked(bytes(header))
    content = _exactly(connection, length)
    return None if content is None else (kind, content)


def _exactly(connection: socket.socket, size: int) -> bytearray | None:
    content = bytearray(size)
    view = memoryview(content)
    while len(view):
        received = connection.recv_into(view)
        if not received:
            return None
        view = view[received:]
    return content
