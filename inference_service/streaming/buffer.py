"""The audio of a stream that has no final result yet."""

from array import array
from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from inference_service.audio.mono import Waveform
from inference_service.streaming.decoder import STREAM_RATE

#: Seconds over which loudness is averaged in the search for a pause: the gaps inside words are shorter.
_PAUSE_SECONDS = 0.3

#: The search for a pause covers the last half of the buffer: shorter pieces give the recogniser less context.
_EARLIEST_CUT = 0.5

_HOP_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Piece:
    """A section of a stream: `samples`, inside a `window` of surrounding audio that helps to recognise it.

    `before` and `after` are the numbers of samples of the window that are not the piece's own. The words of
    the piece begin `border` seconds after its samples, or before them if `border` is negative.
    """

    window: Waveform
    before: int = 0
    after: int = 0
    border: float = 0.0

    @property
    def samples(self) -> Waveform:
        """The piece itself."""
        return self.window[self.before : len(self.window) - self.after]


class PendingAudio:
    """Samples at `STREAM_RATE`, with the chunk that each of them came from.

    The buffer grows with its content and holds no memory while it is empty, because most streams are silent
    most of the time. It keeps the last `remembered` samples that were taken, as context for the next ones.
    """

    def __init__(self, remembered: int = 0) -> None:
        self._most_remembered = remembered
        self._remembered = 0  # samples at the beginning of `_samples` that were taken earlier
        self._samples: Waveform = np.empty(0, dtype=np.float32)
        self._length = 0  # the number of pending samples, which follow them
        self._start = 0  # the position of the first pending sample in the stream
        # Ascending pairs: up to `_ends[i]` in the stream, the samples came with chunks up to `_sequences[i]`.
        self._ends = array("q")
        self._sequences = array("q")

    def __len__(self) -> int:
        return self._length

    @property
    def nbytes(self) -> int:
        """Bytes in memory: the pending samples, those that are remembered, and room for more."""
        return self._samples.nbytes

    @property
    def end(self) -> int:
        """The position of the last pending sample in the stream, in samples from its start."""
        return self._start + self._length

    def append(self, samples: Waveform) -> None:
        """Add samples at the end."""
        filled = self._remembered + self._length
        needed = filled + len(samples)
        if needed > len(self._samples):
            grown = np.empty(max(needed, len(self._samples) * 5 // 4), dtype=np.float32)
            grown[:filled] = self._samples[:filled]
            self._samples = grown
        self._samples[filled:needed] = samples
        self._length += len(samples)

    def mark(self, end: int, sequence: int) -> None:
        """Record that the stream's samples up to `end` came with chunks up to `sequence`."""
        if self._ends and self._ends[-1] >= end:
            self._sequences[-1] = sequence
        else:
            self._ends.append(end)
            self._sequences.append(sequence)

    def copy(self) -> Waveform:
        """All pending samples."""
        return self._samples[self._remembered : self._remembered + self._length].copy()

    def sequence_of(self, count: int) -> int:
        """The sequence number of the chunk that contained the last of the first `count` samples."""
        # The resampler may round up by a sample at the very end.
        return self._sequences[min(bisect_left(self._ends, self._start + count), len(self._ends) - 1)]

    def take(self, count: int) -> Piece:
        """Remove the first `count` samples. Returns them with the remembered and the pending audio around
        them."""
        end = self._remembered + count
        window = self._samples[: self._remembered + self._length].copy()
        piece = Piece(window, self._remembered, len(window) - end)
        first_kept = max(0, end - self._most_remembered)
        self._samples = window[first_kept:].copy()
        self._remembered = end - first_kept
        self._length -= count
        self._start += count
        first = bisect_left(self._ends, self._start + 1)
        del self._ends[:first], self._sequences[:first]
        return piece

    def forget(self) -> None:
        """Drop the remembered context: the next audio is unrelated."""
        self._samples = self._samples[self._remembered : self._remembered + self._length].copy()
        self._remembered = 0


def quietest_point(samples: Waveform) -> int:
    """Where to cut: the middle of the quietest section in the last half of `samples`, as a number of samples.

    A word that is cut is misrecognised twice. Pauses in speech are its quietest sections.
    """
    width = int(_PAUSE_SECONDS * STREAM_RATE)
    hop = int(_HOP_SECONDS * STREAM_RATE)
    first = int(_EARLIEST_CUT * len(samples))
    searched = samples[first:]
    if len(searched) < 2 * width:
        return len(samples)
    energy = np.concatenate(([0.0], np.cumsum(np.square(searched, dtype=np.float64))))
    starts = np.arange(0, len(searched) - width, hop)
    quietest = starts[np.argmin(energy[starts + width] - energy[starts])]
    return first + int(quietest) + width // 2
