"""Helpers of the streaming tests: tones, and a connection without a transport."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

import numpy as np

from inference_service.runtimes.base import Call
from inference_service.streaming import Chunk, Streaming, StreamResult


def tone(seconds: float, rate: int = 16000, channels: int = 1, hertz: float = 440.0) -> bytes:
    """A sine as 16-bit PCM."""
    times = np.arange(round(seconds * rate)) / rate
    samples = (8000 * np.sin(2 * np.pi * hertz * times)).astype("<i2")
    return np.repeat(samples, channels).tobytes()


def pieces(data: bytes, size: int) -> list[bytes]:
    """`data` cut into pieces of `size` bytes."""
    return [data[at : at + size] for at in range(0, len(data), size)]


async def as_sent(chunks: Iterable[Chunk]) -> AsyncIterator[Chunk]:
    """The chunks one after the other, as fast as the reader takes them."""
    for chunk in chunks:
        await asyncio.sleep(0)
        yield chunk


async def results_of(
    streams: Streaming,
    chunks: Iterable[Chunk] | AsyncIterator[Chunk],
    *,
    results: list[StreamResult] | None = None,
    **options: int | str,
) -> list[StreamResult]:
    """All results for `chunks`, added to `results` as they come."""
    found: list[StreamResult] = [] if results is None else results

    async def send(result: StreamResult) -> None:
        found.append(result)

    source = chunks if isinstance(chunks, AsyncIterator) else as_sent(chunks)
    with streams.connect(Call("test"), **options) as connection:  # type: ignore[arg-type]
        await connection.run(source, send)
    return found
