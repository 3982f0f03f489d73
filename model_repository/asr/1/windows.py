"""Windows: what Whisper hears at once, packed from stretches of speech.

A window holds at most 30 s, and Whisper's cost of a window is that of 30 s however little is in it. So
windows are filled: whole stretches of speech in a row, long pauses between them shortened. Windows never
overlap, and together they hold all speech.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SAMPLE_RATE = 16000
WINDOW_S = 30.0
# Longer audio is laid into windows of so much: in full ones Whisper skips more of what is said twice.
PACKED_S = 28.0

# The surroundings of speech help Whisper with its first and last words, and hold words that the VAD misses.
# Half of a pause between two stretches belongs to each of them, up to this much.
SURROUNDINGS_S = 2.0
# Where nobody pauses, the VAD cuts at the best place that it finds.
UNBROKEN_SPEECH_S = PACKED_S - 2 * SURROUNDINGS_S


@dataclass(frozen=True)
class Piece:
    """A part of the audio, [start, end) in samples."""

    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class Window:
    """Pieces of the audio that are decoded as one, in order. `speech`: where in the audio somebody speaks,
    [start, end) in samples."""

    pieces: tuple[Piece, ...]
    speech: tuple[Piece, ...]

    def cut_from(self, audio: np.ndarray) -> np.ndarray:
        """The window's samples, at most 30 s."""
        return np.concatenate([audio[piece.start : piece.end] for piece in self.pieces])

    def time_in_audio(self, seconds: float) -> float:
        """The moment in the audio, in seconds, of a moment in the window."""
        offset = seconds * SAMPLE_RATE
        for piece in self.pieces:
            if offset <= piece.size:
                return (piece.start + offset) / SAMPLE_RATE
            offset -= piece.size
        return self.pieces[-1].end / SAMPLE_RATE


def pack(speech: Sequence[tuple[int, int]], length: int) -> list[Window]:
    """Windows over stretches of `speech`, (start, end) in samples, of audio of `length` samples.

    Audio of at most 30 s is one window. A stretch that is longer than a window is cut.
    """
    longest = int(PACKED_S * SAMPLE_RATE)
    if speech and length <= WINDOW_S * SAMPLE_RATE:
        return [Window((Piece(0, length),), tuple(Piece(*stretch) for stretch in speech))]
    stretches = [part for start, end in speech for part in _parts(start, end, longest)]
    pieces = _with_surroundings(stretches, length, longest)
    groups: list[list[int]] = []
    size = longest
    for number, piece in enumerate(pieces):
        if size + piece.size > longest:
            groups.append([])
            size = 0
        groups[-1].append(number)
        size += piece.size
    return [
        Window(
            _joined(pieces[group[0] : group[-1] + 1]),
            tuple(Piece(*stretch) for stretch in stretches[group[0] : group[-1] + 1]),
        )
        for group in groups
    ]


def _parts(start: int, end: int, longest: int) -> list[tuple[int, int]]:
    return [(cut, min(end, cut + longest)) for cut in range(start, end, longest)]


def _with_surroundings(stretches: Sequence[tuple[int, int]], length: int, longest: int) -> list[Piece]:
    pieces = []
    for number, (start, end) in enumerate(stretches):
        earliest = (stretches[number - 1][1] + start) // 2 if number else 0
        latest = (end + stretches[number + 1][0]) // 2 if number + 1 < len(stretches) else length
        surroundings = min(int(SURROUNDINGS_S * SAMPLE_RATE), (longest - (end - start)) // 2)
        pieces.append(Piece(max(earliest, start - surroundings), min(latest, end + surroundings)))
    return pieces


def _joined(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """Pieces that touch become one."""
    joined: list[Piece] = []
    for piece in pieces:
        if joined and joined[-1].end == piece.start:
            joined[-1] = Piece(joined[-1].start, piece.end)
        else:
            joined.append(piece)
    return tuple(joined)
