"""The container of the inference service in a pod, and the Secret with its settings."""

from inference_service import addresses
from infra import names
from infra.kubernetes import content_names, labels, models, pods, runtimes
from infra.kubernetes.labels import Manifest
from infra.kubernetes.pods import mount
from infra.service_settings import IN_A_POD, service_secrets, settings_text
from infra.stack import Stack
from infra.stack.pools import Pool

#: The names of the service's ports.
HTTP, GRPC = "http", "grpc"
#: Seconds for which a pod that ends still serves: until the gateway knows the pod that came for it. Caches
#: of clusters' DNS keep an answer for 30 s (kubeadm's CoreDNS, NodeLocal DNSCache), and nginx for 10 s.
LEAVING_SECONDS = 45
#: The service's own grace, and then some for its processes and its runtime to end.
_STOP_MARGIN_SECONDS = 15
_TMP, _SETTINGS = "service-tmp", "settings"
_DEFAULT_CPU, _DEFAULT_MEMORY = "1", "1g"
_STARTS_EVERY = 10


def grace_seconds(stack: Stack) -> int:
    """Seconds that a pod gets to end: it leaves, finishes what is running, and stops its runtime."""
    return LEAVING_SECONDS + stack.service.shutdown_grace_seconds + _STOP_MARGIN_SECONDS


def secrets(stack: Stack, pool: Pool) -> dict[str, str]:
    """What the pod's Secret holds: settings, which may contain encrypted values, API keys, credentials."""
    node = stack.node(pool.name)
    key = names.SETTINGS_VARIABLE if stack.service.read_only else names.SETTINGS_FILE_NAME
    stored = models.credentials(stack) if pool.runtime == "triton" else {}
    return {key: settings_text(stack, node, IN_A_POD), **service_secrets(stack, node), **stored}


def secret(stack: Stack, pool: Pool) -> Manifest:
    """The Secret that a pool's pods read. Another content is another Secret: pods of before keep theirs."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": labels.metadata(stack, secret_name(stack, pool), labels.of_pool(stack, pool)),
        "type": "Opaque",
        "immutable": True,
        "stringData": dict(sorted(secrets(stack, pool).items())),
    }


def secret_name(stack: Stack, pool: Pool) -> str:
    """The Secret's name, with the digest of its content."""
    return content_names.of_secrets(labels.of(stack, pool.name, "settings"), secrets(stack, pool))


def container(stack: Stack, pool: Pool, image: str) -> Manifest:
    """The service, in front of the runtime in the same pod."""
    settings, asked = stack.service, pool.resources.service
    name = secret_name(stack, pool)
    from_secret = sorted(service_secrets(stack, stack.node(pool.name)))
    plain = dict(settings.env)
    mounts = [mount(_TMP, "/tmp")]
    if settings.read_only:
        from_secret.append(names.SETTINGS_VARIABLE)
    else:
        plain[names.SETTINGS_PATH_VARIABLE] = names.SETTINGS_FILE
        mounts.append(mount(_SETTINGS, names.SETTINGS_FILE, True, names.SETTINGS_FILE_NAME))
    if pool.runtime == "triton":
        mounts.append(mount(runtimes.SHM, "/dev/shm"))
    return {
        "name": names.SERVICE,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "env": pods.variables(plain, name, from_secret),
        "ports": [
            {"name": HTTP, "containerPort": addresses.HTTP_PORT},
            {"name": GRPC, "containerPort": addresses.GRPC_PORT},
        ],
        "resources": pods.resources(
            settings.memory, asked.cpu or _DEFAULT_CPU, asked.memory, _DEFAULT_MEMORY
        ),
        "securityContext": pods.container_security(settings.read_only, pods.USER),
        "volumeMounts": mounts,
        "startupProbe": _starts(stack),
        # The health of the process: a runtime that does not answer is its own container's trouble.
        "livenessProbe": pods.http_probe(
            "/health", HTTP, periodSeconds=10, timeoutSeconds=5, failureThreshold=3
        ),
        "readinessProbe": pods.http_probe(
            "/api/v1/ai/health", HTTP, periodSeconds=3, timeoutSeconds=3, failureThreshold=2
        ),
        "lifecycle": {"preStop": {"sleep": {"seconds": LEAVING_SECONDS}}},
    }


def volumes(stack: Stack, pool: Pool) -> list[Manifest]:
    """The service's own volumes."""
    made = [pods.empty(_TMP)]
    if not stack.service.read_only:
        items = [{"key": names.SETTINGS_FILE_NAME, "path": names.SETTINGS_FILE_NAME}]
        source = {"secretName": secret_name(stack, pool), "items": items}
        made.append({"name": _SETTINGS, "secret": source})
    return made


def _starts(stack: Stack) -> Manifest:
    """When a pod counts as started: its models have answered once, and not only loaded.

    The service of another image may have no such command; of it the health route tells. One that reads its
    settings from a variable (`readOnly`) has the command.
    """
    tries = max(1, runtimes.start_seconds(stack) // _STARTS_EVERY)
    if stack.service.own or stack.service.read_only:
        command = ["python3", "-m", "inference_service.healthcheck", "--answers"]
        return pods.command_probe(
            command, periodSeconds=_STARTS_EVERY, timeoutSeconds=60, failureThreshold=tries
        )
    return pods.http_probe(
        "/api/v1/ai/health", HTTP, periodSeconds=_STARTS_EVERY, timeoutSeconds=5, failureThreshold=tries
    )
