"""The objects of stacks in a cluster are valid for every Kubernetes, and ask for no more than they need."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from importlib import resources
from typing import Any

import jsonschema_rs
import pytest

from infra.kubernetes.objects import objects
from tests.kubernetes.stacks import OWN, STACKS, stack

pytestmark = pytest.mark.fast

Manifest = dict[str, Any]
_FOLDER = resources.files("kubernetes_validate") / "kubernetes-json-schema"
_FIRST = (1, 30)
VERSIONS = sorted(
    version
    for each in _FOLDER.iterdir()
    if (match := re.fullmatch(r"v(1)\.(\d+)\.\d+-local-strict", each.name))
    and (version := (int(match[1]), int(match[2]))) >= _FIRST
)
#: What a stack uses that Kubernetes has not always had.
SINCE = {"image volume": (1, 31)}
#: Kinds of custom resources: their schemas are those of operators.
CUSTOM = {"ScaledObject", "PodMonitor", "PrometheusRule", "Certificate", "HTTPRoute", "GRPCRoute"}


def folder(version: tuple[int, int]) -> Any:
    return _FOLDER / f"v{version[0]}.{version[1]}.0-local-strict"


@functools.cache
def definitions(version: tuple[int, int]) -> Any:
    return json.loads((folder(version) / "_definitions.json").read_text(encoding="utf-8"))


@functools.cache
def validator(version: tuple[int, int], kind: str, api: str) -> Any:
    file = f"{kind.lower()}-{re.sub(r'[.][^/]*', '', api).replace('/', '-')}.json"
    own = json.loads((folder(version) / file).read_text(encoding="utf-8"))
    return jsonschema_rs.validator_for(own, retriever=lambda _: definitions(version))


@functools.cache
def declared(name: str) -> list[Manifest]:
    return objects(stack(STACKS[name]))


def mistakes(manifest: Manifest, version: tuple[int, int]) -> list[str]:
    found = validator(version, manifest["kind"], manifest["apiVersion"]).iter_errors(manifest)
    return [f"{manifest['kind']} {'.'.join(map(str, each.instance_path))}: {each.message}" for each in found]


def test_there_are_twenty_stacks_and_eight_versions() -> None:
    assert len(STACKS) == 20
    assert VERSIONS[0] == _FIRST
    assert len(VERSIONS) >= 8


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: ".".join(map(str, version)))
def test_every_object_of_every_stack_is_valid(version: tuple[int, int]) -> None:
    found = [
        f"{name}: {mistake}"
        for name in STACKS
        if version >= SINCE.get(name, _FIRST)
        for manifest in declared(name)
        if manifest["kind"] not in CUSTOM
        for mistake in mistakes(manifest, version)
    ]
    assert not found


def test_the_validation_finds_a_key_that_kubernetes_does_not_know() -> None:
    [deployment, *_] = [each for each in declared("smallest") if each["kind"] == "Deployment"]
    wrong = json.loads(json.dumps(deployment))
    wrong["spec"]["template"]["spec"]["containers"][0]["memory"] = "1Gi"
    assert mistakes(wrong, VERSIONS[-1])


@pytest.mark.parametrize("name", STACKS)
def test_no_two_objects_of_a_kind_have_one_name(name: str) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in declared(name)]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", each) for _, each in names)


@pytest.mark.parametrize("name", STACKS)
def test_every_object_is_in_the_stacks_namespace_and_carries_its_name(name: str) -> None:
    given = stack(STACKS[name])
    for each in declared(name):
        assert each["metadata"]["namespace"] == given.kubernetes.namespace
        assert each["metadata"]["labels"]["app.kubernetes.io/instance"] == "prod"


# Policy -------------------------------------------------------------------------------------------------


def pod_specs(name: str) -> Iterator[tuple[str, Manifest, Manifest]]:
    """The pods of a stack: the Deployment's name, the pod's specification, and its metadata."""
    for each in declared(name):
        if each["kind"] == "Deployment":
            template = each["spec"]["template"]
            yield each["metadata"]["name"], template["spec"], template["metadata"]


def containers(spec: Manifest) -> list[Manifest]:
    return [*spec.get("initContainers", []), *spec["containers"]]


@pytest.mark.parametrize("name", STACKS)
def test_pods_keep_to_the_restricted_pod_security_level(name: str) -> None:
    # https://kubernetes.io/docs/concepts/security/pod-security-standards/, of version 1.30.
    allowed = {"configMap", "emptyDir", "persistentVolumeClaim", "secret", "image"}
    safe = {"net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes"}
    for _, spec, _ in pod_specs(name):
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert {each["name"] for each in spec["securityContext"].get("sysctls", [])} <= safe
        assert all(each.keys() - {"name"} <= allowed for each in spec["volumes"])
        for each in containers(spec):
            context = each["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            user = spec["securityContext"] | context
            assert user["runAsNonRoot"] is True
            assert user["runAsUser"] > 0
            assert not any("hostPort" in port for port in each.get("ports", []))


@pytest.mark.parametrize("name", STACKS)
def test_every_container_has_a_limit_of_memory_requests_and_a_read_only_root(name: str) -> None:
    for _, spec, _ in pod_specs(name):
        for each in containers(spec):
            # The user's images of Edge-LLM have the limits and the root that the user says.
            if each["name"] != "llm-node":
                assert "memory" in each["resources"]["limits"], each["name"]
            assert each["resources"]["requests"].keys() >= {"cpu", "memory"}
            if each["name"] in ("triton", "nginx", "console"):
                assert each["securityContext"]["readOnlyRootFilesystem"] is True


@pytest.mark.parametrize("name", STACKS)
def test_every_container_has_probes_and_an_image_that_says_which_one_it_is(name: str) -> None:
    for _, spec, _ in pod_specs(name):
        for each in containers(spec):
            last = each["image"].rpartition("/")[2]
            assert "@sha256:" in each["image"] or (":" in last and not last.endswith(":latest"))
            assert "livenessProbe" in each
            if each["name"] in ("service", "nginx"):
                assert {"startupProbe", "readinessProbe"} <= each.keys()
        sidecars = spec.get("initContainers", [])
        assert all(each["restartPolicy"] == "Always" and "startupProbe" in each for each in sidecars)


@pytest.mark.parametrize("name", STACKS)
def test_pods_get_no_token_of_the_cluster_and_no_variables_of_other_services(name: str) -> None:
    for _, spec, _ in pod_specs(name):
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False


@pytest.mark.parametrize("name", STACKS)
def test_every_mount_has_its_volume_and_every_volume_is_mounted(name: str) -> None:
    for deployment, spec, _ in pod_specs(name):
        volumes = [each["name"] for each in spec["volumes"]]
        mounted = {mount["name"] for each in containers(spec) for mount in each["volumeMounts"]}
        assert len(volumes) == len(set(volumes))
        assert mounted == set(volumes), deployment


@pytest.mark.parametrize("name", STACKS)
def test_what_pods_read_from_secrets_and_config_maps_is_declared_before_them(name: str) -> None:
    there: set[tuple[str, str, str]] = set()
    users = {"ai-tls", "prod-gateway-tls"}  # the user's, and the one that cert-manager writes
    for each in declared(name):
        if each["kind"] in ("Secret", "ConfigMap"):
            data = each.get("data") or each["stringData"]
            there |= {(each["kind"], each["metadata"]["name"], key) for key in data}
        if each["kind"] != "Deployment":
            continue
        spec = each["spec"]["template"]["spec"]
        wanted = {
            ("Secret", variable["valueFrom"]["secretKeyRef"]["name"], variable["name"])
            for container in containers(spec)
            for variable in container.get("env", [])
            if "valueFrom" in variable
        }
        for volume in spec["volumes"]:
            for kind, source, key in (("Secret", "secret", "secretName"), ("ConfigMap", "configMap", "name")):
                held = volume.get(source)
                if held is not None and held[key] not in users:
                    wanted |= {(kind, held[key], item["key"]) for item in held["items"]}
        assert wanted <= there


def test_pods_that_end_serve_until_everybody_knows_those_that_came_for_them() -> None:
    given = stack(OWN)
    found = list(objects(given))
    pods = {each["metadata"]["name"]: each["spec"] for each in found if each["kind"] == "Deployment"}
    [service] = pods["prod-l4"]["template"]["spec"]["containers"]
    gateway, console = pods["prod-gateway"]["template"]["spec"]["containers"]
    [conf] = [each["data"]["nginx.conf"] for each in found if "nginx.conf" in each.get("data", {})]
    kept = re.search(r"valid=(\d+)s", conf)
    assert kept
    # kubeadm's CoreDNS tells names for 30 s, and its cache keeps them for so long.
    assert service["lifecycle"]["preStop"]["sleep"]["seconds"] >= 30 + int(kept[1])
    # Load balancers of clouds take a machine out after three health checks, each 10 s after the other.
    slept = re.search(r"^sleep (\d+);", gateway["lifecycle"]["preStop"]["exec"]["command"][-1])
    assert slept and int(slept[1]) >= 30
    assert console["lifecycle"]["preStop"]["sleep"]["seconds"] == int(slept[1])
    for name, leaving in (("prod-l4", 45), ("prod-gateway", int(slept[1]))):
        grace = pods[name]["template"]["spec"]["terminationGracePeriodSeconds"]
        assert grace >= leaving + given.service.shutdown_grace_seconds + 5


@pytest.mark.parametrize(
    ("service", "answers"),
    [
        ({}, True),
        ({"image": "registry.example.com/gpu/service:1", "readOnly": True}, True),
        ({"image": "registry.example.com/gpu/service:1"}, False),
    ],
)
def test_a_pod_of_this_projects_image_starts_when_its_models_have_answered(
    service: dict[str, Any], answers: bool
) -> None:
    found = objects(stack({"service": service, "images": {"registry": "registry.example.com/gpu"}}))
    [pods] = [
        each["spec"]["template"]["spec"]
        for each in found
        if each["metadata"]["name"] == "prod-l4" and each["kind"] == "Deployment"
    ]
    probe = pods["containers"][0]["startupProbe"]
    assert ("--answers" in probe.get("exec", {}).get("command", [])) is answers
    assert ("httpGet" in probe) is not answers


def test_no_secret_is_in_another_object_than_a_secret() -> None:
    secrets = ("example-key-1", "example-password", "example-token", "example-id")
    for name in STACKS:
        for each in declared(name):
            if each["kind"] != "Secret":
                assert not [text for text in secrets if text in json.dumps(each)], (name, each["kind"])
