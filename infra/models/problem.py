"""What stops a command on models."""

from __future__ import annotations


class ModelProblem(Exception):
    """A model cannot be fetched, converted, exported or checked; `str(error)` says why, and what to do."""
