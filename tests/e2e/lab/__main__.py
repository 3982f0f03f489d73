"""`python -m tests.e2e.lab check | clean | images | up`: the laboratory by hand.

check   prints one line with the missing tools, if any (exit status 1)
clean   removes the leftovers of killed runs
images  prepares the base images
up      creates two GPU hosts and a gateway host, prints how to reach them, and removes them on Ctrl-C
"""

from __future__ import annotations

import signal
import sys
from contextlib import suppress

from tests.e2e.lab import images
from tests.e2e.lab.fleet import clean, running_fleet
from tests.e2e.lab.prerequisites import missing


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def check() -> int:
    lacking = missing()
    print(f"missing: {'; '.join(lacking)}" if lacking else "nothing is missing")
    return 1 if lacking else 0


def up() -> int:
    golden = images.prepare(say)
    with running_fleet() as fleet, suppress(KeyboardInterrupt):
        for name, gpu in (("gpu-1", True), ("gpu-2", True), ("gateway", False)):
            fleet.add(name, gpu=gpu, docker_data=golden).power_on()
        for host in fleet.hosts.values():
            host.wait_ready()
            print(f"{host.name}  ssh -F {fleet.operator.config} root@{host.address}", flush=True)
        signal.pause()
    return 0


def main(arguments: list[str]) -> int:
    match arguments:
        case ["check"]:
            return check()
        case ["clean"]:
            for folder in clean():
                print(f"removed {folder}")
            return 0
        case ["images"]:
            print(images.prepare(say))
            return 0
        case ["up"]:
            return up()
        case _:
            print(__doc__, file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
