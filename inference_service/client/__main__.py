"""`speech FILE…`: the text of recordings, or of live audio."""

import io
import os
import sys

from inference_service.client.batch import FAILED
from inference_service.client.command import run

INTERRUPTED, BROKEN_PIPE = 130, 141


def main() -> int:
    """Run the command line. Returns the exit status, as `--help` lists them."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # The terminal may not have the letters of every language.
        sys.stdout.reconfigure(errors="replace")
    try:
        status = run(sys.argv[1:])
        print(end="", flush=True)
        return status
    except KeyboardInterrupt:
        if sys.stderr is not None and sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:  # of standard output: every other one is a ClientError
        # What is still buffered would fail again when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return BROKEN_PIPE
        print(f"speech: the text cannot be written: {error.strerror}", file=sys.stderr)
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
