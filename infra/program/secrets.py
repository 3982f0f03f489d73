"""Keeps what was encrypted in the stack file secret in the state, whichever resource it gets into.

Each resource's inputs are searched for the encrypted texts. So a new resource, or a new key of the stack
file, needs no code of its own for that.
"""

from collections.abc import Mapping
from typing import Any

import pulumi

from infra.stack import encrypted


def transformation(secrets: tuple[str, ...]) -> pulumi.ResourceTransformation:
    """What makes secrets of the inputs that contain one, for a component and all inside it."""

    def transform(
        args: pulumi.ResourceTransformationArgs,
    ) -> pulumi.ResourceTransformationResult | None:
        return pulumi.ResourceTransformationResult(concealed(args.props, secrets), args.opts)

    return transform


def concealed(properties: Mapping[str, Any], secrets: tuple[str, ...]) -> dict[str, Any]:
    """The properties; those that contain a secret are secret outputs."""
    return {
        name: pulumi.Output.secret(value) if encrypted.hides(value, secrets) else value
        for name, value in properties.items()
    }


def inside(opts: pulumi.ResourceOptions | None, secrets: tuple[str, ...]) -> pulumi.ResourceOptions | None:
    """A component's options, with the transformation where there are secrets."""
    if not secrets:
        return opts
    added = pulumi.ResourceOptions(transformations=[transformation(secrets)])
    return pulumi.ResourceOptions.merge(opts, added)
