"""Show what pip prints as one line of a terminal: packages so far, the present one, the remaining time.

    pip install --progress-bar off … | python pip_progress.py COUNT

COUNT is the number of packages in the lock. It runs in a new environment, so it imports the standard library
only.
"""

import re
import sys
import time
from collections.abc import Iterable, Iterator

#: The share of the time that downloads take; pip writes the files of all packages at the end.
_DOWNLOADS = 0.8

_PACKAGE = re.compile(r"(?:Collecting|Ignoring) ([A-Za-z0-9._-]+)")
_DOWNLOAD = re.compile(r"\s*Downloading (\S+?)(?:\.whl|\.tar\.gz)?(?:\.metadata)? \(([\d.]+ \w+)\)")


def lines(printed: Iterable[str], count: int, clock: Iterator[float]) -> Iterator[str]:
    """What to show after each line that pip prints. `clock` gives the seconds since the start."""
    done, size, left = 0, "", ""
    for line in printed:
        seconds = next(clock)
        if found := _PACKAGE.match(line):
            done += 1
            if done > 3:
                left = f", about {_time(seconds / (done - 1) * count / _DOWNLOADS - seconds)} left"
            yield f"{min(done, count)} of {count} packages: {found[1]}{left}"
        elif found := _DOWNLOAD.match(line):
            size = found[2]
            yield f"{min(done, count)} of {count} packages: {found[1].partition('-')[0]}, {size}{left}"
        elif line.startswith("Installing collected packages"):
            rest = seconds / _DOWNLOADS - seconds
            yield f"writing the files of {count} packages, about {_time(rest)} left"


def _time(seconds: float) -> str:
    whole = max(0, round(seconds))
    return f"{whole} s" if whole < 100 else f"{round(whole / 60)} min"


def main() -> None:
    """Reads standard input to its end."""
    begin = time.monotonic()
    clock = iter(lambda: time.monotonic() - begin, None)
    try:
        for text in lines(sys.stdin, int(sys.argv[1]), clock):
            print(f"\r\x1b[K  {text[:78]}", end="", flush=True)
        print("\r\x1b[K", end="", flush=True)
    except KeyboardInterrupt:  # Ctrl-C reaches pip, too
        print()


if __name__ == "__main__":
    main()
