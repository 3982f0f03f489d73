"""The model repository linter: finds what Triton or the service would reject, before a deployment."""

from infra.doctor.linter.files import Listing, NotARepository, local
from infra.doctor.linter.lint import Fault, lint
