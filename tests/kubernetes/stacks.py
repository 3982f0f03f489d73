"""Twenty stacks in a cluster, which together use every key of a pool and of `kubernetes`."""

from __future__ import annotations

from typing import Any

from infra.stack import Stack, parse

POOL: dict[str, Any] = {"name": "l4", "replicas": 2}
BASE: dict[str, Any] = {
    "target": "kubernetes",
    "nodes": [POOL],
    "models": {"source": "claim://models/triton"},
    "service": {"image": "registry.example.com/gpu/service:1"},
    "triton": {"image": "registry.example.com/gpu/triton:1"},
}
KEYS = {"apiKeys": ["example-key-1"]}
EDGE = {
    "edgeLlm": {
        "unitManager": {"image": "registry.example.com/unit-manager:1", "memory": "2g", "user": "1000:1000"},
        "llmNode": {"image": "registry.example.com/llm-node:1", "command": ["serve"], "user": "1000:1000"},
    }
}
OWN = {"service": {}, "images": {"registry": "registry.example.com/gpu"}}
KEDA = {"min": 0, "max": 4, "by": "keda", "prometheus": "http://prometheus.monitoring.svc:9090"}


def pool(**keys: Any) -> dict[str, Any]:
    """A stack of one pool with these keys."""
    return {"nodes": [{**POOL, **keys}]}


STACKS: dict[str, dict[str, Any]] = {
    "smallest": {},
    "keys": KEYS,
    "own images": {**OWN, **KEYS},
    "registry with a login": {
        "service": {},
        "images": {
            "registry": "registry.example.com/gpu",
            "username": "deploy",
            "password": "example-password",
            "logins": [{"registry": "nvcr.io", "username": "$oauthtoken", "password": "example-token"}],
        },
    },
    "selector and tolerations": pool(
        selector={"nvidia.com/gpu.product": "NVIDIA-L4"},
        tolerations=[
            {"key": "nvidia.com/gpu", "effect": "NoSchedule"},
            {"key": "team", "operator": "Equal", "value": "speech"},
            {"key": "maintenance", "effect": "NoExecute", "tolerationSeconds": 60},
        ],
    ),
    "resources": pool(
        resources={"runtime": {"cpu": 4, "memory": "16g"}, "service": {"cpu": "500m", "memory": "2g"}}
    ),
    "MIG": {
        **pool(gpus=2),
        "kubernetes": {"gpuResource": "nvidia.com/mig-1g.10gb", "runtimeClass": "nvidia"},
    },
    "no GPU": pool(gpus=0, update="replace", serviceAccount="reader"),
    "roles": {
        "nodes": [
            {"name": "speech", "tasks": ["asr"], "weight": 3},
            {"name": "voice", "tasks": ["emotion", "synthesis"], "gpus": 0, "drained": True},
        ]
    },
    "remote": {
        "nodes": [
            {"name": "elsewhere", "runtime": "remote", "remote": {"endpoint": "https://ai.example.com"}}
        ],
        "remote": {"token": "example-token"},
    },
    "edge": {**pool(runtime="edge-llm"), **EDGE},
    "hpa": {"nodes": [{"name": "l4", "autoscale": {"min": 2, "max": 8, "running": 12.5, "queued": 2}}]},
    "keda": {**OWN, "nodes": [{"name": "l4", "autoscale": {**KEDA, "downAfterSeconds": 600}}]},
    "object store": {
        "models": {"source": "s3://bucket/models", "credentials": {"AWS_ACCESS_KEY_ID": "example-id"}}
    },
    "image volume": {"models": {"source": "image://registry.example.com/models:3?triton"}},
    "node port": {
        "kubernetes": {
            "namespace": "speech",
            "clusterDomain": "example.internal",
            "service": {
                "type": "NodePort",
                "nodePorts": {"http": 30080, "grpc": 30090},
                "externalTrafficPolicy": "Cluster",
            },
            "gateway": {"replicas": 3, "cpu": "1", "memory": "1g"},
        },
        "gateway": {"http": 80, "grpc": 9000, "rateLimit": {"requestsPerSecond": 5}},
    },
    "ingress": {
        **OWN,
        "gateway": {"publicHost": "ai.example.com", "console": {"password": "example-password"}},
        "kubernetes": {
            "service": {"type": "ClusterIP"},
            "ingress": {
                "className": "nginx",
                "tlsSecret": "ai-tls",
                "annotations": {"nginx.ingress.kubernetes.io/proxy-body-size": "100m"},
                "grpcHost": "grpc.example.com",
                "grpcAnnotations": {"nginx.ingress.kubernetes.io/backend-protocol": "GRPC"},
            },
        },
    },
    "route": {
        **KEYS,
        "gateway": {"publicHost": "ai.example.com", "trustedProxies": ["192.0.2.0/24"]},
        "kubernetes": {
            "service": {"type": "ClusterIP"},
            "route": {
                "gateway": "public",
                "namespace": "edge",
                "httpSection": "https",
                "grpcSection": "grpc",
            },
            "networkPolicies": False,
            "monitoring": {"by": "none"},
        },
    },
    "certificate": {
        **KEYS,
        **OWN,
        "gateway": {"publicHost": "ai.example.com"},
        "monitoring": {"existing": "http://prometheus-operated.monitoring.svc:9090"},
        "kubernetes": {
            "tls": {"certManager": {"name": "letsencrypt"}},
            "service": {"loadBalancerClass": "example.com/internal", "annotations": {"example.com/a": "b"}},
            "monitoring": {
                "by": "operator",
                "labels": {"release": "prometheus"},
                "namespace": "monitoring",
                "dashboards": {"annotations": {"grafana_folder": "Fleet"}},
            },
        },
    },
    "proxy protocol and a service of another image": {
        **KEYS,
        "service": {
            "image": "registry.example.com/other@sha256:" + "0" * 64,
            "env": {"LOG_LEVEL": "debug"},
            "shutdownGraceSeconds": 30,
        },
        "gateway": {"trustedProxies": ["192.0.2.0/24"], "proxyProtocol": True, "rateLimit": False},
        "kubernetes": {"tls": {"secret": "ai-tls"}},
        "rollout": {"batch": "25%", "minHealthy": "50%", "readyTimeoutSeconds": 900},
    },
}


def stack(config: dict[str, Any], name: str = "prod") -> Stack:
    """The stack of that name with these keys over the smallest one's."""
    return parse({**BASE, **config}, name)
