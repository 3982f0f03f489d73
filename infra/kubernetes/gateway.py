"""The gateway's pods: the same nginx as on hosts, from a ConfigMap, and the console beside it."""

import dataclasses
import shlex
from collections.abc import Mapping

from inference_service import addresses
from infra import names
from infra.gateway import entrance, watched
from infra.gateway.render import OWN_RESOLVER, Paths, RenderedSite, Site, Tls, render_site
from infra.kubernetes import console, content_names, labels, monitoring, pods
from infra.kubernetes.labels import Manifest
from infra.kubernetes.pods import mount
from infra.kubernetes.pool import spread
from infra.stack import Stack
from infra.stack.hosts import bracketed

#: The user of the official nginx image; nginx and the console share their sockets.
USER = "101:101"
_CONF, _KEYS, _RUN, _BODIES, _TLS = "conf", "api-keys", "run", "bodies", "tls"
_KEYS_FOLDER, _TLS_FOLDER = f"{names.CONFIGURATIONS_MOUNT}-keys", f"{names.CONFIGURATIONS_MOUNT}-tls"
_RUN_FOLDER, _TEMP_FOLDER = "/run/nginx", Paths().temp
#: The keys of a Secret of type kubernetes.io/tls.
_CERTIFICATE, _KEY = "tls.crt", "tls.key"
#: Workers: of a machine with many cores, one for each would take more memory than nginx may have.
_WORKERS = 4
#: Seconds for which a pod that ends still takes connections: until load balancers know that its machine has
#: none any more. With `externalTrafficPolicy: Local` they learn it by three health checks, 10 s apart.
_LEAVING_SECONDS = 40
#: Nodes that a request may come to at the most, beside those of an update's batch.
_TRIES = 4


def site(stack: Stack) -> Site:
    """The gateway's nginx. It resolves the names of pools while it runs: each has its pods' addresses."""
    base = entrance.site(stack)
    batch = max(stack.rollout.batch_size(pool.most) for pool in stack.pools)
    return dataclasses.replace(
        base,
        http=addresses.GATEWAY_HTTP_PORT,
        grpc=addresses.GATEWAY_GRPC_PORT,
        bind="",
        tls=Tls(f"{_TLS_FOLDER}/{_CERTIFICATE}", f"{_TLS_FOLDER}/{_KEY}") if stack.kubernetes.tls else None,
        resolver=OWN_RESOLVER,
        # No sysctl that every cluster allows shortens how long the kernel sends again.
        reuses_nodes=False,
        at_once=min(max(batch, sum(pool.most for pool in stack.pools) // 2), _TRIES),
        worker_processes=_WORKERS,
        paths=Paths(
            pid=f"{_RUN_FOLDER}/nginx.pid",
            temp=_TEMP_FOLDER,
            api_keys=f"{_KEYS_FOLDER}/{names.API_KEYS_CONF}",
            console=f"{names.CONSOLE_MOUNT}/{names.CONSOLE_SOCKET}",
            console_log=f"{names.CONSOLE_MOUNT}/{names.CONSOLE_LOG_SOCKET}",
        ),
    )


def public_url(stack: Stack) -> str:
    """The HTTP entrance, by the name that clients use."""
    gateway, kubernetes = stack.gateway, stack.kubernetes
    if kubernetes.ingress is not None:
        return f"{'https' if kubernetes.ingress.tls_secret else 'http'}://{gateway.public_host}"
    if kubernetes.route is not None:
        return f"https://{gateway.public_host}"
    scheme = "https" if kubernetes.tls is not None else "http"
    return f"{scheme}://{bracketed(gateway.public_host)}:{gateway.http}"


def objects(stack: Stack, images: Mapping[str, str], pull_secret: str | None) -> list[Manifest]:
    """The gateway's own objects, each after those that it needs."""
    rendered = render_site(site(stack))
    configuration, secret = config_map(stack, rendered), _secret(stack, rendered)
    keys = secret["metadata"]["name"] if secret is not None else ""
    return [
        configuration,
        *([secret] if secret is not None else []),
        deployment(stack, rendered, configuration["metadata"]["name"], keys, images, pull_secret),
        _disruption_budget(stack),
    ]


def config_map(stack: Stack, rendered: RenderedSite) -> Manifest:
    """The configuration of nginx, and of the console.

    Another content is another ConfigMap: pods of before, which may start anew, keep theirs.
    """
    data = {names.NGINX_CONF: rendered.nginx_conf}
    if stack.console is not None:
        scheme = "https" if stack.kubernetes.tls is not None else "http"
        probe = f"{scheme}://{names.LOOPBACK}:{addresses.GATEWAY_HTTP_PORT}"
        data[names.CONSOLE_SETTINGS] = watched.settings(stack, set(), public_url(stack), probe)
    name = content_names.of_data(labels.of(stack, labels.GATEWAY), data)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": labels.metadata(stack, name, labels.of_gateway(stack)),
        "immutable": True,
        "data": data,
    }


def _secret(stack: Stack, rendered: RenderedSite) -> Manifest | None:
    """The API keys as nginx includes them, and the console's secrets; None where there are none.

    Another content is another Secret.
    """
    held = {} if rendered.api_keys is None else {names.API_KEYS_CONF: rendered.api_keys}
    held |= console.secrets(stack)
    if not held:
        return None
    name = content_names.of_secrets(labels.of(stack, labels.GATEWAY, "keys"), held)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": labels.metadata(stack, name, labels.of_gateway(stack)),
        "type": "Opaque",
        "immutable": True,
        "stringData": held,
    }


def deployment(
    stack: Stack,
    rendered: RenderedSite,
    configuration: str,
    keys: str,
    images: Mapping[str, str],
    pull_secret: str | None,
) -> Manifest:
    """The gateway's Deployment. `configuration` names its ConfigMap and `keys` its Secret, empty without one;
    another name starts its pods anew, one after the other."""
    selecting = labels.of_gateway(stack)
    containers = [_nginx(stack, rendered)]
    if stack.console is not None:
        containers.append(console.container(stack, images[names.SERVICE], keys, _LEAVING_SECONDS))
    spec: Manifest = {
        "containers": containers,
        "volumes": _volumes(stack, rendered, configuration, keys),
        "securityContext": pods.pod_security(USER) | {"sysctls": _SYSCTLS},
        "terminationGracePeriodSeconds": _LEAVING_SECONDS + stack.service.shutdown_grace_seconds + 10,
        "topologySpreadConstraints": [spread(selecting)],
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
    }
    if pull_secret is not None:
        spec["imagePullSecrets"] = [{"name": pull_secret}]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": labels.metadata(stack, labels.of(stack, labels.GATEWAY), selecting),
        "spec": {
            "replicas": stack.kubernetes.gateway.replicas,
            "selector": {"matchLabels": selecting},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "progressDeadlineSeconds": 300,
            "revisionHistoryLimit": 5,
            "template": {
                "metadata": {
                    "labels": labels.of_object(selecting),
                    "annotations": dict(sorted(monitoring.gateway_annotations(stack).items())),
                },
                "spec": spec,
            },
        },
    }


# A pod whose machine is cut off answers nothing at all: give up on its idle connections within seconds. The
# sysctls that every cluster allows.
_SYSCTLS = [
    {"name": "net.ipv4.tcp_keepalive_time", "value": "5"},
    {"name": "net.ipv4.tcp_keepalive_intvl", "value": "2"},
    {"name": "net.ipv4.tcp_keepalive_probes", "value": "3"},
]


def start_script(stack: Stack) -> str:
    """What nginx's container runs: nginx reads no resolv.conf itself, and no certificate again by itself."""
    given = f"{names.CONFIGURATIONS_MOUNT}/{names.NGINX_CONF}"
    used = f"{_RUN_FOLDER}/{names.NGINX_CONF}"
    nginx = f"nginx -c {used}"
    lines = [
        "set -eu",
        """server=$(awk '/^nameserver/ { print ($2 ~ /:/) ? "[" $2 "]" : $2; exit }' /etc/resolv.conf)""",
        f'sed "s/{OWN_RESOLVER}/$server/" {given} >{used}',
    ]
    if stack.kubernetes.tls is not None:
        certificate = f"cat {_TLS_FOLDER}/{_CERTIFICATE} | cksum"
        lines += [
            f"seen=$({certificate})",
            f'( while sleep 30; do now=$({certificate}); [ "$now" = "$seen" ] || '
            f"{{ seen=$now; {nginx} -s reload; }}; done ) &",
        ]
    return "\n".join([*lines, f"exec {nginx} -g 'daemon off;'"])


def _nginx(stack: Stack, rendered: RenderedSite) -> Manifest:
    kubernetes = stack.kubernetes
    secured = "HTTPS" if kubernetes.tls is not None else "HTTP"
    probe = {"httpGet": {"path": "/health", "port": "http", "scheme": secured}}
    if stack.gateway.proxy_protocol:
        # The kubelet sends no PROXY header.
        probe = {"tcpSocket": {"port": "http"}}
    mounts = [
        mount(_CONF, names.CONFIGURATIONS_MOUNT, read_only=True),
        mount(_RUN, _RUN_FOLDER),
        mount(_BODIES, _TEMP_FOLDER),
    ]
    if rendered.api_keys is not None:
        mounts.append(mount(_KEYS, _KEYS_FOLDER, read_only=True))
    if kubernetes.tls is not None:
        mounts.append(mount(_TLS, _TLS_FOLDER, read_only=True))
    if stack.console is not None:
        mounts.append(mount(console.SOCKETS, names.CONSOLE_MOUNT))
    quit_ = f"sleep {_LEAVING_SECONDS}; nginx -c {_RUN_FOLDER}/{names.NGINX_CONF} -s quit; " + shlex.join(
        ["sleep", str(stack.service.shutdown_grace_seconds)]
    )
    return {
        "name": "nginx",
        "image": stack.gateway.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", start_script(stack)],
        "ports": [
            {"name": "http", "containerPort": addresses.GATEWAY_HTTP_PORT},
            {"name": "grpc", "containerPort": addresses.GATEWAY_GRPC_PORT},
        ],
        "resources": pods.resources(kubernetes.gateway.memory, kubernetes.gateway.cpu, None, "128m"),
        "securityContext": pods.container_security(read_only=True),
        "volumeMounts": mounts,
        "startupProbe": {**probe, "periodSeconds": 1, "timeoutSeconds": 4, "failureThreshold": 60},
        "livenessProbe": {**probe, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 3},
        "readinessProbe": {**probe, "periodSeconds": 3, "timeoutSeconds": 3, "failureThreshold": 2},
        # Requests that run end before the pod does: SIGTERM would cut them. nginx's end ends the container,
        # and so this command.
        "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", quit_]}}},
    }


def _volumes(stack: Stack, rendered: RenderedSite, name: str, keys: str) -> list[Manifest]:
    only = {"key": names.NGINX_CONF, "path": names.NGINX_CONF}
    made = [
        {"name": _CONF, "configMap": {"name": name, "items": [only]}},
        pods.empty(_RUN),
        pods.empty(_BODIES),
    ]
    if rendered.api_keys is not None:
        item = {"key": names.API_KEYS_CONF, "path": names.API_KEYS_CONF}
        made.append({"name": _KEYS, "secret": {"secretName": keys, "items": [item]}})
    if stack.kubernetes.tls is not None:
        made.append({"name": _TLS, "secret": {"secretName": certificate_secret(stack)}})
    if stack.console is not None:
        made += console.volumes(name)
    return made


def certificate_secret(stack: Stack) -> str:
    """The Secret with the gateway's certificate: the user's, or the one that cert-manager writes."""
    tls = stack.kubernetes.tls
    assert tls is not None
    return tls.secret or labels.of(stack, labels.GATEWAY, "tls")


def _disruption_budget(stack: Stack) -> Manifest:
    selecting = labels.of_gateway(stack)
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": labels.metadata(stack, labels.of(stack, labels.GATEWAY), selecting),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": selecting},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
