"""Asks all hosts of a stack at the same time, each with one call: a login costs more than most questions."""

import shlex
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from infra.connection import Connection, RemoteError, open_jump
from infra.stack import Host, Ssh

_MOST_AT_ONCE = 64
_CONNECT_SECONDS = 3
# Between the answers. ASCII's separator of records, which no answer has.
_END = "\x1e"
_HERE = "--end-of-input--"


@dataclass(frozen=True, slots=True)
class Question:
    """A shell script that changes nothing on the host, with its arguments and the text on its input."""

    script: str
    arguments: tuple[str, ...] = ()
    stdin: str = ""

    def command(self) -> str:
        """As shell code."""
        call = shlex.join(["sh", "-c", self.script, "sh", *self.arguments])
        # A here-document ends with a line end.
        return f"{call} <<'{_HERE}'\n{self.stdin}{_HERE}\n" if self.stdin else f"{call} </dev/null\n"


@dataclass(frozen=True)
class Answers:
    """What the scripts printed, by host and in the order of the questions, and the hosts that did not answer
    with the reasons."""

    said: Mapping[Host, Sequence[str]] = field(default_factory=dict)
    silent: Mapping[Host, str] = field(default_factory=dict)


def ask(questions: Mapping[Host, Sequence[Question]], ssh: Ssh, seconds: float) -> Answers:
    """Asks the hosts. Each has so many seconds for all its answers. `ssh` must fit the working directory."""
    if not questions:
        return Answers()
    open_jump(ssh, seconds)
    said: dict[Host, Sequence[str]] = {}
    silent: dict[Host, str] = {}

    def answer(host: Host) -> None:
        try:
            said[host] = _asked(host, questions[host], ssh, seconds)
        except RemoteError as error:
            silent[host] = error.output.strip() or str(error)
        except subprocess.TimeoutExpired:
            silent[host] = f"no answer within {seconds:.0f} s"

    with ThreadPoolExecutor(max_workers=min(len(questions), _MOST_AT_ONCE)) as pool:
        list(pool.map(answer, questions))
    return Answers(said, silent)


def _asked(host: Host, questions: Sequence[Question], ssh: Ssh, seconds: float) -> list[str]:
    connection = Connection.to(host, ssh).preferring(ConnectTimeout=str(_CONNECT_SECONDS))
    script = "".join(f"{question.command()}printf '\\036'\n" for question in questions)
    return connection.run(script, timeout=seconds).stdout.split(_END)[:-1]
