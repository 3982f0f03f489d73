"""All objects that a stack declares in its cluster."""

from collections.abc import Mapping

from infra.kubernetes import autoscaling, entrance, gateway, images, monitoring, policies, pool
from infra.kubernetes.labels import Manifest
from infra.stack import Stack


def objects(stack: Stack, references: Mapping[str, str] | None = None) -> list[Manifest]:
    """Every object, each after those that it needs. Raises ContextError and ModelsError."""
    known = images.references(stack) if references is None else references
    logins = images.pull_secret(stack)
    pull = logins["metadata"]["name"] if logins is not None else None
    made: list[Manifest] = [*policies.objects(stack), *([logins] if logins is not None else [])]
    for each in stack.pools:
        made += pool.objects(stack, each, known, pull)
        made += autoscaling.objects(stack, each)
    return [
        *made,
        *gateway.objects(stack, known, pull),
        *entrance.objects(stack),
        *monitoring.objects(stack),
    ]
