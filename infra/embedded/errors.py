"""The error of every command of an embedded stack."""


class EmbeddedError(Exception):
    """A part of the stack cannot run as declared; `str(error)` names the part, the reason and the remedy."""
