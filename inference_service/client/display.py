"""What the command line prints."""

import json
import os
from typing import TextIO


class Display:
    """Prints final text to standard output, and progress and partial text on one line of the terminal."""

    def __init__(self, output: TextIO, terminal: TextIO, *, as_json: bool) -> None:
        self._output = output
        self._terminal = terminal if terminal.isatty() else None
        self._as_json = as_json
        self._errors = terminal
        self._warned = False

    def show(self, text: str) -> None:
        """Replace the line on the terminal."""
        if self._terminal is not None:
            width = os.get_terminal_size(self._terminal.fileno()).columns - 1
            print(f"\r\x1b[K{text[-width:]}", end="", file=self._terminal, flush=True)

    def clear(self) -> None:
        """Clear the line on the terminal."""
        self.show("")

    @property
    def on_terminal(self) -> bool:
        """Whether a person sees the progress."""
        return self._terminal is not None

    def fail(self, reason: str, remedy: str = "") -> None:
        """Print why there is no text, or no more of it, and what to do, as one line."""
        self.clear()
        line = " ".join(f"{reason}. {remedy}".split()) if remedy else " ".join(reason.split())
        print(f"speech: {line}", file=self._errors, flush=True)

    def note(self, text: str) -> None:
        """Print on standard error what has been done."""
        self.clear()
        print(text, file=self._errors, flush=True)

    def partial(self, text: str, result: dict[str, object]) -> None:
        """Show a text that may still change."""
        if self._as_json:
            print(json.dumps(result, ensure_ascii=False), file=self._output, flush=True)
        else:
            self.show(text)

    def final(self, text: str, result: dict[str, object]) -> None:
        """Print a text that will not change, and once what its model cannot be trusted with."""
        self.warn(result)
        if self._as_json or text:
            line = json.dumps(result, ensure_ascii=False) if self._as_json else text
            print(line, file=self._output, flush=True)

    def warn(self, result: dict[str, object]) -> None:
        """Print once what the model of a result cannot be trusted with."""
        self.clear()
        answer = result.get("result_data", result)
        if isinstance(answer, dict) and answer.get("caveat") and not self._warned:
            self._warned = True
            model = f"{answer['kind']} model" if "kind" in answer else "model"
            print(f"speech: caveat of the node's {model}: {answer['caveat']}", file=self._errors, flush=True)
