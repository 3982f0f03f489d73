"""The model repository linter: what Triton or the service will not take, said before anything is deployed."""

from infra.doctor.linter.files import Listing, NotARepository, local
from infra.doctor.linter.lint import Fault, lint

__all__ = ["Fault", "Listing", "NotARepository", "lint", "local"]
