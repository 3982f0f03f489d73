"""The files of a stack's Prometheus: configuration, rules, and what opens gateways and nodes to it."""

from typing import Any

import yaml

from inference_service import addresses
from infra import names
from infra.certificates import Identity
from infra.gateway.render import DOCKER_HOST
from infra.monitoring import rules
from infra.monitoring.exporters import exporters
from infra.stack import Stack, UnixHost
from infra.stack.hosts import bracketed, machine_of

FILE = "prometheus.yml"
#: The console's password, or one of the API keys.
GATEWAY_KEY = "gateway-key"
CERTIFICATE, KEY, AUTHORITY = "client.pem", "client.key", "node-authority.pem"
SCRAPE_SECONDS = 15


def files(stack: Stack, client: Identity | None = None) -> dict[str, str]:
    """The files by name. `client` is the certificate for nodes with TLS."""
    found = {FILE: yaml.safe_dump(configuration(stack), sort_keys=False), rules.FILE: rules.alerts()}
    if (key := gateway_key(stack)) is not None:
        found[GATEWAY_KEY] = key
    if client is not None:
        found |= {CERTIFICATE: client.certificate, KEY: client.key, AUTHORITY: client.authority}
    return found


def configuration(stack: Stack) -> dict[str, Any]:
    """The configuration without secrets, which are in files beside it."""
    made: dict[str, Any] = {
        "global": {
            "scrape_interval": f"{SCRAPE_SECONDS}s",
            "evaluation_interval": f"{SCRAPE_SECONDS}s",
            # An alert that is a sum over nodes has no label of the stack otherwise.
            "external_labels": {"stack": stack.name},
        },
        "rule_files": [rules.FILE],
        "scrape_configs": [
            *_gateways(stack),
            _nodes(stack),
            *_exporters(stack, "fleet-host", names.HOST_EXPORTER),
            *_exporters(stack, "fleet-gpu", names.GPU_EXPORTER),
        ],
    }
    monitoring = stack.monitoring
    if monitoring is not None and monitoring.alertmanager is not None:
        target = f"{names.ALERTMANAGER}:{monitoring.alertmanager.port}"
        made["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [target]}]}]}
    return made


def beside_gateway(stack: Stack) -> bool:
    """Whether Prometheus is on the network of a gateway in a container, which it then reaches by its name."""
    own = stack.monitoring_host
    return (
        own is not None
        and stack.gateway.mode == "container"
        and any(machine_of(each.host) == machine_of(own) for each in stack.gateway.each)
    )


def _gateways(stack: Stack) -> list[dict[str, Any]]:
    """A job for each gateway with figures: their certificates are verified in different ways."""
    # Prometheus writes no PROXY header.
    if stack.console is None or stack.gateway.proxy_protocol:
        return []
    own = stack.monitoring_host
    jobs = []
    for gateway in stack.gateway.each:
        here = own is not None and beside_gateway(stack) and machine_of(gateway.host) == machine_of(own)
        address = f"{bracketed(gateway.public_host)}:{gateway.http}"
        target = f"{names.GATEWAY}:{addresses.GATEWAY_HTTP_PORT}" if here else address
        job: dict[str, Any] = {
            "job_name": f"fleet-{gateway.name}",
            "scheme": gateway.scheme,
            "static_configs": [
                {
                    "targets": [target],
                    "labels": {"job": "fleet-gateway", "instance": address, "stack": stack.name},
                },
            ],
        }
        if gateway_key(stack) is not None:
            job["authorization"] = {"credentials_file": GATEWAY_KEY}
        if gateway.tls is not None:
            # Beside the gateway nothing leaves the machine, and the certificate is for another name.
            job["tls_config"] = (
                {"insecure_skip_verify": True} if here else {"server_name": stack.gateway.public_host}
            )
        jobs.append(job)
    return jobs


def _nodes(stack: Stack) -> dict[str, Any]:
    job: dict[str, Any] = {
        "job_name": "fleet-node",
        "scheme": stack.node_scheme,
        "static_configs": [
            {
                "targets": [f"{bracketed(_dialled(stack, number))}:{stack.dialled_ports(node)[0]}"],
                "labels": {"stack": stack.name, "node": node.name},
            }
            for number, node in enumerate(stack.nodes)
        ],
    }
    if stack.node_tls:
        job["tls_config"] = {
            "ca_file": AUTHORITY,
            "cert_file": CERTIFICATE,
            "key_file": KEY,
            "server_name": names.NODE_TLS_NAME,
        }
    return job


def _dialled(stack: Stack, number: int) -> str:
    node = stack.nodes[number]
    # In a container, 127.0.0.1 is the container.
    is_here = isinstance(node.host, UnixHost) and node.public_host == node.host.address
    return DOCKER_HOST if is_here else node.public_host


def _exporters(stack: Stack, job: str, part: str) -> list[dict[str, Any]]:
    targets = [
        {"targets": [each.target], "labels": {"stack": stack.name, "host": each.machine}}
        for each in exporters(stack)
        if each.part == part
    ]
    return [{"job_name": job, "static_configs": targets}] if targets else []


def gateway_key(stack: Stack) -> str | None:
    """The console's password, or one of the API keys: it opens the gateway's metrics. None: they are open."""
    console = stack.console
    if console is not None and console.password is not None:
        return console.password.get_secret_value()
    return stack.api_keys[0].get_secret_value() if stack.api_keys else None
