"""Compressed request bodies: gzip and deflate, unpacked within the limits of a body that came as it is."""

import zlib
from collections.abc import Iterator

from inference_service.budget import Lease
from inference_service.errors import BadRequest, TooLarge, UnsupportedCoding

#: The content codings that the service unpacks, as answers name them.
CODINGS = ("gzip", "deflate")

_GZIP, _ZLIB, _BARE = 31, 15, -15  # zlib's `wbits`

#: Bytes of compressed data that are read at once, and the most unpacked bytes before they are counted.
_STEP = 64 * 1024
_BLOCK = 1 << 20

#: Most gzip members in one body. Tools that pack in parallel write one for each 64 KiB or more.
_MAX_MEMBERS = 4096


def coding_of(content_encoding: bytes | None) -> str | None:
    """The coding that a Content-Encoding header names: one of `CODINGS`, or None for an uncompressed body.

    Raises UnsupportedCoding for others, and for several one around the other.
    """
    text = (content_encoding or b"").decode("latin-1").lower()
    names = [name.strip().removeprefix("x-") for name in text.split(",")]
    names = [name for name in names if name not in ("", "identity")]
    if not names:
        return None
    if len(names) > 1 or names[0] not in CODINGS:
        raise UnsupportedCoding(
            f"Content-Encoding {text[:40]} is not supported; send {' or '.join(CODINGS)}, or the plain body"
        )
    return names[0]


def unpack(body: bytes, coding: str, *, max_bytes: int, lease: Lease) -> bytes:
    """Return what `body` holds, packed with `coding`. It takes a while: call it in a thread.

    `lease` holds what is unpacked, as it grows. Raises TooLarge beyond `max_bytes`, Busy where the byte
    budget has no room, and BadRequest for a body that is damaged or ends early.
    """
    parts: list[bytes] = []
    size = 0
    for part in _parts(body, coding, lease):
        size += len(part)
        if size > max_bytes:
            raise TooLarge(
                f"the body is larger than {max_bytes} bytes, the most allowed, once it is unpacked"
            )
        parts.append(part)
    with lease.briefly(size):  # until `parts` are dropped
        whole = b"".join(parts)
        parts.clear()
    return whole


def _parts(body: bytes, coding: str, lease: Lease) -> Iterator[bytes]:
    """The unpacked body in blocks, each held by `lease`."""
    wbits = _GZIP if coding == "gzip" else _ZLIB if _is_zlib(body) else _BARE
    unpacker, members = zlib.decompressobj(wbits), 1
    packed, at = body[:_STEP], _STEP
    try:
        while True:
            lease.take(_BLOCK)
            block = unpacker.decompress(packed, _BLOCK)
            lease.give(_BLOCK - len(block))
            yield block
            packed = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
            if not packed:
                packed, at = body[at : at + _STEP], at + _STEP
            if unpacker.eof:
                if not packed.strip(b"\0") and not body[at:].strip(b"\0"):  # gzip allows zeros at the end
                    return
                members += 1
                if coding != "gzip" or members > _MAX_MEMBERS:
                    raise BadRequest(f"the body goes on after its {coding} data")
                unpacker = zlib.decompressobj(wbits)
            elif not packed and not block:
                raise BadRequest(f"the body ends in the middle of its {coding} data")
    except zlib.error as error:
        raise BadRequest(f"the body is not {coding}, as Content-Encoding says: {error}") from None


def _is_zlib(body: bytes) -> bool:
    """Whether deflate data has zlib's header, as the standard wants; some clients send it without."""
    return len(body) > 1 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0
