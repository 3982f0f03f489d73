"""The gates of an update: what a pool's Deployment must have shown before the update goes on.

A gate is a ConfigMap that says which pods were found good last. The update writes it after the judgement of
the Deployment's pods, so a killed or failed update judges them again.
"""

from infra.kubernetes import labels
from infra.kubernetes.labels import Manifest
from infra.stack import Stack
from infra.stack.pools import Pool

#: The gate, and not Pulumi, waits for the pods: it tells more, and ends at once where waiting is no use.
#: Pulumi waits for the Deployment alone; with `skipAwait` it would not wait for its deletion either.
DEPLOYMENT_ANNOTATIONS = {"pulumi.com/waitFor": "jsonpath={.metadata.uid}"}
#: The end of a gate's name, after the Deployment's.
SUFFIX = "-good"
#: The keys of a gate: the annotation `REVISION` of the pods that were found good, how many there are, and
#: when an update put them back, if one did.
REVISION, PODS, AGAIN = "revision", "pods", "again-after"


def gate(stack: Stack, pool: Pool, track: str, deployment: Manifest) -> Manifest:
    """The gate after a pool's Deployment."""
    template, replicas = deployment["spec"]["template"], deployment["spec"].get("replicas")
    data = {REVISION: template["metadata"]["annotations"][labels.REVISION]}
    # An autoscaler changes the number at any time.
    if replicas is not None:
        data[PODS] = str(replicas)
    if (again := deployment["metadata"]["annotations"].get(labels.AGAIN)) is not None:
        data[AGAIN] = again
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": labels.metadata(
            stack, f"{deployment['metadata']['name']}{SUFFIX}", labels.of_track(stack, pool, track)
        ),
        "data": data,
    }


def is_gate(manifest: Manifest) -> bool:
    """Whether an object is a gate."""
    return manifest["kind"] == "ConfigMap" and REVISION in manifest["data"]
