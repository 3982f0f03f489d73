"""Damaged recordings of every format, as many as asked: each is heard or refused, and nothing else happens.

`python -m tests.fuzz --files 200000`, or `make fuzz`. It decodes as the service does, each recording in a
process of its own, and prints what came of the files. The exit status is 1 if a file raised anything but the
service's own errors, or if the memory of this process grew by more than `_MOST_GROWTH`.
"""

import argparse
import itertools
import os
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import psutil

from inference_service.audio import Audio
from inference_service.audio.decode import Recording, decode
from inference_service.audio.limits import Limits
from inference_service.errors import ServiceError
from tests.service.recordings import speech, written
from tests.service.test_recordings import FORMATS, HEADERLESS

#: Seconds of speech in each recording: short, so that the damage is often in a header.
_SECONDS = 1.0
_MOST_GROWTH = 100 * 2**20
_SAYS_EVERY = 30.0
_BATCH = 1000


@dataclass
class Outcomes:
    """What came of the files."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")


def originals() -> list[tuple[str, bytes, str | None]]:
    """A whole recording of each format, with its name and the format that a client names."""
    made: list[tuple[str, bytes, str | None]] = []
    for container, codec, rate in FORMATS:
        data = written(container, codec, speech(0, _SECONDS, rate), rate=rate)
        made.append((f"{container}/{codec}/{rate}", data, None))
    return made + [(label, data[:8000], name) for data, name, label in HEADERLESS]


def damaged(data: bytes, random: np.random.Generator) -> bytes:
    """The file with some of its bytes changed, a part of it lost or doubled, or its end cut off."""
    changed = bytearray(data)
    if random.random() < 0.4:
        del changed[random.integers(1, len(changed)) :]
    if random.random() < 0.2:
        start, end = sorted(random.integers(0, len(changed) + 1, 2))
        part = changed[start:end]
        changed[start:end] = b"" if random.random() < 0.5 else part * 2
    # Most of a format's structure is at the start of the file.
    reach = len(changed) if random.random() < 0.3 else min(len(changed), 400)
    for at in random.integers(0, max(1, reach), random.integers(0, 20)):
        if at < len(changed):
            changed[at] = random.integers(256)
    return bytes(changed)


def outcome_of(data: bytes, format: str | None) -> str:
    """`heard`, or the kind of error. Raises what is no error of the service."""
    try:
        audio = decode(Recording(data, format), Limits(60))
    except ServiceError as error:
        if not str(error):
            raise ValueError("an error without a text") from error
        crashed = "makes the decoder fail" in str(error)
        return "refused; its decoder process crashed" if crashed else type(error).__name__
    if not isinstance(audio, Audio) or not np.isfinite(audio.waveform(16000)).all():
        raise ValueError("the audio is not finite")
    return "heard"


def run(files: int, seed: int) -> Outcomes:
    """Decode this many damaged files, as many at once as there are processors."""
    sources, outcomes = originals(), Outcomes()
    began = said = time.monotonic()

    def one(number: int) -> tuple[str, str, float]:
        random = np.random.default_rng((seed, number))
        name, data, format = sources[number % len(sources)]
        begun = time.monotonic()
        try:
            result = outcome_of(damaged(data, random), format)
        except Exception as error:  # noqa: BLE001 - what this program looks for
            result = f"fault: {error!r}"
        return f"file {number} ({name})", result, time.monotonic() - begun

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # `map` begins with all that it gets.
        starts = range(0, files, _BATCH)
        batches = (pool.map(one, range(start, min(start + _BATCH, files))) for start in starts)
        for done, (file, result, seconds) in enumerate(itertools.chain.from_iterable(batches), 1):
            if result.startswith("fault"):
                outcomes.faults.append(f"{file}: {result}")
            outcomes.counts[result.partition(":")[0]] += 1
            outcomes.slowest = max(outcomes.slowest, (seconds, file))
            if time.monotonic() - said > _SAYS_EVERY:
                said = time.monotonic()
                left = (said - began) / done * (files - done)
                print(f"{done} of {files}, about {left / 60:.0f} min left", flush=True)
    return outcomes


def main() -> int:
    """Run, print, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0, help="the same seed damages files in the same way")
    arguments = parser.parse_args()
    run(500, arguments.seed + 1)  # what libraries allocate once is not growth
    memory = psutil.Process().memory_info().rss
    outcomes = run(arguments.files, arguments.seed)
    growth = psutil.Process().memory_info().rss - memory
    for kind, count in outcomes.counts.most_common():
        print(f"{count:8} {kind}")
    seconds, file = outcomes.slowest
    print(f"slowest: {seconds:.2f} s, {file}; memory grew by {growth / 2**20:.0f} MiB")
    print(*outcomes.faults[:50], sep="\n")
    return 1 if outcomes.faults or growth > _MOST_GROWTH else 0


if __name__ == "__main__":
    sys.exit(main())
