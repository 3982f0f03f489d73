"""Manifests as resources of Pulumi's Kubernetes provider."""

from collections.abc import Sequence
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from infra.stack import Stack

_KINDS: dict[tuple[str, str], type[pulumi.CustomResource]] = {
    ("v1", "ConfigMap"): k8s.core.v1.ConfigMap,
    ("v1", "Secret"): k8s.core.v1.Secret,
    ("v1", "Service"): k8s.core.v1.Service,
    ("apps/v1", "Deployment"): k8s.apps.v1.Deployment,
    ("autoscaling/v2", "HorizontalPodAutoscaler"): k8s.autoscaling.v2.HorizontalPodAutoscaler,
    ("networking.k8s.io/v1", "Ingress"): k8s.networking.v1.Ingress,
    ("networking.k8s.io/v1", "NetworkPolicy"): k8s.networking.v1.NetworkPolicy,
    ("policy/v1", "PodDisruptionBudget"): k8s.policy.v1.PodDisruptionBudget,
}


def provider(stack: Stack, parent: pulumi.Resource) -> k8s.Provider:
    """The provider for the stack's cluster."""
    kubernetes = stack.kubernetes
    secret = kubernetes.kubeconfig
    return k8s.Provider(
        "cluster",
        context=kubernetes.context,
        kubeconfig=pulumi.Output.secret(secret.get_secret_value()) if secret is not None else None,
        namespace=kubernetes.namespace,
        # Else an unreachable cluster makes `preview` show that everything is created anew.
        delete_unreachable=False,
        # Else another configuration deletes the object and makes it anew, and pods that start meanwhile wait.
        enable_config_map_mutable=True,
        enable_secret_mutable=True,
        opts=pulumi.ResourceOptions(parent=parent),
    )


def declare(
    name: str,
    manifest: dict[str, Any],
    *,
    parent: pulumi.Resource,
    provider: k8s.Provider,
    needs: Sequence[pulumi.Resource] = (),
    seconds: int | None = None,
    hooks: pulumi.ResourceHookBinding | None = None,
) -> pulumi.CustomResource:
    """Declares the object of a manifest, after the resources that it `needs`.

    Pulumi waits for `seconds` until the cluster has done what the object asks for. Another name or namespace
    is another object, which is created before the old one is deleted.
    """
    given = {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind")}
    if manifest["kind"] == "Secret":
        given["stringData"] = pulumi.Output.secret(given["stringData"])
    waits = f"{seconds}s" if seconds is not None else None
    options = pulumi.ResourceOptions(
        parent=parent,
        provider=provider,
        depends_on=list(needs),
        hooks=hooks,
        custom_timeouts=pulumi.CustomTimeouts(create=waits, update=waits) if waits else None,
    )
    kind = _KINDS.get((manifest["apiVersion"], manifest["kind"]))
    if kind is None:
        return k8s.apiextensions.CustomResource(
            name, manifest["apiVersion"], manifest["kind"], opts=options, **given
        )
    return kind(name, opts=options, **{_snake(key): value for key, value in given.items()})


def _snake(key: str) -> str:
    return {"stringData": "string_data"}.get(key, key)
