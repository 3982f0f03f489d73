"""The error that the commands of an embedded stack report."""


class EmbeddedError(Exception):
    """A part of the stack cannot run as declared; `str(error)` names the part, the reason and the remedy."""
