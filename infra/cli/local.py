"""`fleet up` and `down`: a stack on this computer; elsewhere they say which command to use."""

from argparse import Namespace

from infra.cli import stack_files
from infra.cli.options import DEFAULT_STACK, STACK
from infra.cli.screen import Failed
from infra.embedded import cli as embedded
from infra.embedded.layout import STATE


def up(stack: STACK = DEFAULT_STACK) -> int:
    """Bring the stack up on this computer, and send a recording through it."""
    loaded = stack_files.load(stack)
    if not stack_files.on_this_computer(loaded):
        raise Failed(f"the stack {stack} is for other hosts.\nTo deploy it: fleet deploy -s {stack}")
    embedded.up(Namespace(stack=stack, state=STATE))
    return 0


def down(stack: STACK = DEFAULT_STACK) -> int:
    """Stop every process of the stack on this computer."""
    path = stack_files.path_of(stack)
    if path.is_file() and not stack_files.on_this_computer(stack_files.load(stack)):
        raise Failed(f"the stack {stack} is on other hosts.\nTo remove it: fleet destroy -s {stack}")
    embedded.down(Namespace(stack=stack, state=STATE))
    return 0
