"""Pulumi's output without what no person reads: of the builds of images only steps and errors stay.

A terminal shows one line for each resource, and each message replaces the one before. Elsewhere each message
is a line: 75 for two images, most of them digests.
"""

import re
import sys
from typing import IO

_IMAGE = r"docker:index(?:/\w+)?:Image \S+ \w+"
_DIGEST = re.compile(rf"{_IMAGE} \(\S+\) (?:digest: )?sha256:[0-9a-f]{{64}}\s*$")
_MESSAGE = re.compile(rf"(?P<image>{_IMAGE}) \(\S+\) ?(?P<message>.*)")


class ShortLog:
    """Chooses the lines that are shown; it remembers the last message of each image."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}

    def shows(self, line: str) -> bool:
        """Whether the next line of the output is shown."""
        if _DIGEST.search(line):
            return False
        if (match := _MESSAGE.search(line)) is None:
            return True
        image, message = match["image"], match["message"].strip()
        repeated = self._last.get(image) == message
        self._last[image] = message
        return not repeated


def pass_on(output: IO[str]) -> None:
    """Copies Pulumi's output to standard output until it ends, line by line."""
    log = ShortLog()
    for line in output:
        if log.shows(line):
            sys.stdout.write(line)
            sys.stdout.flush()
