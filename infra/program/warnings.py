"""What a stack allows, but a person who deploys it should know."""

import pulumi

from infra.program import model_kinds, triton_release
from infra.stack import Stack, roles


def tell(stack: Stack) -> None:
    """Tells them all in the output of Pulumi."""
    for warning in (model_kinds.warning(stack), triton_release.warning(stack), *roles.warnings(stack)):
        if warning is not None:
            pulumi.log.warn(warning)
