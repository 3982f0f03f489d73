"""Makes the key of a stack's certificate authority: `python -m infra.steps.authority make`.

Pulumi keeps the output in the stack's state, encrypted, and never runs the step again: another key would be
another authority, which the nodes that are deployed do not trust.
"""

import sys

from infra.certificates import make_authority
from infra.declaration import Declaration
from infra.steps.run import run


class Authority(Declaration, frozen=True, kw_only=True):
    """The authority of a stack."""

    stack: str


def make(_: Authority) -> None:
    """Prints the private key."""
    print(make_authority(), end="")


if __name__ == "__main__":
    sys.exit(run({"make": (Authority, make)}))
