"""The stacks that have a file here, as the commands use them."""

from infra.stack import Stack, load_file
from infra.stack.files import existing, known, path_of

__all__ = ["existing", "known", "load", "on_this_computer", "path_of"]


def load(stack: str) -> Stack:
    """The stack of that name. Raises NoStackFile without its file, StackError for mistakes in it."""
    return load_file(existing(stack))


def on_this_computer(stack: Stack) -> bool:
    """Whether the whole stack is processes on this computer."""
    return stack.gateway.mode == "embedded" and all(node.embedded for node in stack.nodes)
