"""One map from a stack to its services' settings, and one list of Triton's arguments."""

from __future__ import annotations

from typing import Any

import pytest

from inference_service import settings
from infra import names
from infra.embedded.declarations import node_declaration
from infra.gateway import entrance
from infra.image_references import content_tag, context_files, service_source, sources
from infra.models.files import versions
from infra.paths import PROJECT
from infra.program.runtimes.triton import command
from infra.service_settings import DECIDED, service_secrets, service_settings
from infra.stack import Build, Stack, parse
from infra.triton_arguments import arguments, models_in_use, trace_arguments, trace_environment

pytestmark = pytest.mark.fast

KEY = "example-key-1"
REMOTE = {"endpoint": "https://ai.example.com", "token": "example-token", "timeoutSeconds": 5}
TRACES = {"endpoint": "http://192.0.2.30:4318/", "share": 0.5}
ADDRESSES = {"host", "http_port", "grpc_port", "runtime_dir"}


def stack_of(host: str, runtime: str = "triton", **more: Any) -> Stack:
    return parse({"nodes": [{"name": "one", "host": host, "runtime": runtime}], "apiKeys": [KEY], **more})


def without_addresses(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings without the service's own addresses, Triton's address and the labels' path."""
    settings["ai"].pop("models", None)
    settings["ai"]["runtime"].pop("triton", None)
    return settings | {
        "server": {key: value for key, value in settings["server"].items() if key not in ADDRESSES}
    }


@pytest.mark.parametrize("runtime", ["triton", "remote"])
def test_an_embedded_service_has_the_settings_and_secrets_of_one_in_a_container(runtime: str) -> None:
    more = {"remote": REMOTE, "service": {"workers": 3, "config": {"server": {"log_level": "debug"}}}}
    remote = stack_of("ssh://root@192.0.2.1", runtime, **more)
    embedded = stack_of("embedded", runtime, **more)
    declaration = node_declaration(embedded, embedded.nodes[0])
    in_container = service_settings(remote, remote.nodes[0])
    assert without_addresses(declaration.service) == without_addresses(in_container)
    assert declaration.environment == service_secrets(remote, remote.nodes[0])
    assert KEY not in str(declaration.service)
    assert "example-token" not in str(declaration.service)


def test_a_setting_that_the_stack_decides_is_named_with_the_key_that_does() -> None:
    assert DECIDED["server.workers"] == "service.workers"
    assert DECIDED["server.api_keys"] == "apiKeys"
    assert DECIDED["ai.http.token"] == "remote.token"
    assert DECIDED["server.cors_origins"] == "cors.origins"
    assert len(DECIDED) == 20


def paths(settings: Any, prefix: str = "") -> set[str]:
    """The dotted paths of all values in nested settings."""
    if not isinstance(settings, dict):
        return {prefix}
    return {path for key, value in settings.items() for path in paths(value, f"{prefix}.{key}".lstrip("."))}


def test_every_setting_that_a_key_decides_is_in_the_file_or_a_secret() -> None:
    decided: set[str] = set()
    for runtime in ("triton", "remote"):
        models = {"allowRules": False}
        cors = {"origins": ["https://app.example.com"]}
        stack = stack_of(
            "ssh://root@192.0.2.1", runtime, remote=REMOTE, models=models, cors=cors, traces=TRACES
        )
        decided |= paths(service_settings(stack, stack.nodes[0]))
        decided |= {name.lower().replace("__", ".") for name in service_secrets(stack, stack.nodes[0])}
    tls = (names.NODE_CERTIFICATE, names.NODE_KEY, names.NODE_CLIENT_AUTHORITY)
    decided |= {name.lower().replace("__", ".") for name in tls}
    # In a container these have their defaults; the stack decides where they are published.
    decided |= {"server.tls.http_port", "server.tls.grpc_port"}
    without_key = {"server.host", "ai.runtime.triton.endpoint", "ai.runtime.triton.grpc_endpoint"}
    # The attributes of spans are a mapping.
    decided = {path.partition(".resource.")[0] + ".resource" * (".resource." in path) for path in decided}
    assert decided == DECIDED.keys() | without_key


@pytest.mark.parametrize("host", ["ssh://root@192.0.2.1", "embedded"])
@pytest.mark.parametrize(("allowed", "sent"), [(None, None), (True, None), (False, False)])
def test_a_stack_that_allows_no_rules_says_so_to_every_service(
    host: str, allowed: bool | None, sent: bool | None
) -> None:
    models = {"source": "sync"} | ({} if allowed is None else {"allowRules": allowed})
    stack = stack_of(host, models=models)
    node = stack.nodes[0]
    settings = node_declaration(stack, node).service if node.embedded else service_settings(stack, node)
    assert settings["ai"].get("models", {}).get("allow_rules") is sent


def test_an_embedded_service_knows_the_versions_of_its_models() -> None:
    stack = stack_of("embedded", models={"source": "sync"})
    told = node_declaration(stack, stack.nodes[0]).service["ai"]["models"]["versions"]
    there = versions(PROJECT / "model_repository")
    assert told == {model: there[model] for model in ("asr", "emotion", "emotion-text", "synthesis")}


def test_a_triton_loads_the_models_that_its_service_asks_for_and_no_others() -> None:
    stack = stack_of(
        "ssh://root@192.0.2.1", service={"config": {"ai": {"models": {"emotion": {"enabled": False}}}}}
    )
    assert models_in_use(stack) == ("asr", "synthesis")
    loaded = [argument for argument in command(stack, stack.nodes[0]) if argument.startswith("--load-model")]
    assert loaded == ["--load-model=asr", "--load-model=synthesis"]


def test_the_environment_of_the_service_may_choose_other_models() -> None:
    service = {
        "config": {"ai": {"models": {"emotion": {"enabled": False}}}},
        "env": {"AI__MODELS__ASR__MODEL_NAME": "whisper-large", "SERVER__WORKERS": "1"},
    }
    stack = stack_of("ssh://root@192.0.2.1", service=service)
    assert models_in_use(stack) == ("synthesis", "whisper-large")


def test_a_node_with_tasks_loads_and_serves_only_these() -> None:
    stack = parse(
        {
            "nodes": [
                {"host": "ssh://root@192.0.2.1", "tasks": ["asr"]},
                {"host": "ssh://root@192.0.2.2", "tasks": ["synthesis", "emotion"]},
            ]
        }
    )
    hearing, feeling = stack.nodes
    assert models_in_use(stack, hearing) == ("asr",)
    assert models_in_use(stack, feeling) == ("emotion", "emotion-text", "synthesis")
    assert models_in_use(stack) == ("asr", "emotion", "emotion-text", "synthesis")
    assert service_settings(stack, hearing)["ai"]["models"] == {
        "emotion": {"enabled": False},
        "synthesis": {"enabled": False},
    }
    assert service_settings(stack, feeling)["ai"]["models"] == {"asr": {"enabled": False}}
    assert feeling.tasks == ["emotion", "synthesis"], "the order of the file is no difference"


def test_a_triton_loads_all_models_where_the_services_are_not_known() -> None:
    stack = stack_of("ssh://root@192.0.2.1", service={"image": "service:1"})
    assert models_in_use(stack) is None
    assert "--load-model=*" in command(stack, stack.nodes[0])


def test_an_embedded_triton_treats_models_as_one_in_a_container_does() -> None:
    stack = stack_of("ssh://root@192.0.2.1", triton={"extraArgs": ["--rate-limit=off"]})
    shared = arguments(
        "/models",
        grace=150,
        models=models_in_use(stack),
        shared_memory_prefix="triton-",
        extra=["--rate-limit=off"],
    )
    assert command(stack, stack.nodes[0])[5:] == shared


@pytest.mark.parametrize("host", ["ssh://root@192.0.2.1", "embedded"])
def test_listed_origins_reach_the_services_and_the_gateway(host: str) -> None:
    cors = {"origins": ["https://App.example.com:443", "http://localhost:*"]}
    as_sent = ["https://app.example.com", "http://localhost:*"]
    stack = stack_of(host, "triton", cors=cors)
    assert service_settings(stack, stack.nodes[0])["server"]["cors_origins"] == as_sent
    assert entrance.site(stack).cors_origins == tuple(as_sent)
    without = stack_of(host, "triton")
    # Services of stacks without the list are not replaced for it.
    assert "cors_origins" not in service_settings(without, without.nodes[0])["server"]


@pytest.mark.parametrize("host", ["ssh://root@192.0.2.1", "embedded"])
def test_traces_reach_the_service_and_triton_of_a_node_that_they_name(host: str) -> None:
    stack = stack_of(host, "triton", traces=TRACES)
    [node] = stack.nodes
    whose = {"service.namespace": stack.name, "service.instance.id": node.name}
    told = service_settings(stack, node)["server"]["traces"]
    assert told == {"endpoint": "http://192.0.2.30:4318", "share": 0.5, "resource": whose}
    assert settings.check({"server": {"traces": told}}, {})[0].server.traces.share == 0.5
    declared = node_declaration(stack, node).triton if host == "embedded" else None
    given = declared.extra_args if declared else command(stack, node)
    if declared:
        assert declared.environment == trace_environment(stack)
    assert [argument.removeprefix("--trace-config=") for argument in given if "trace" in argument] == [
        "mode=opentelemetry",
        "level=TIMESTAMPS",
        "rate=0",
        "opentelemetry,url=http://192.0.2.30:4318/v1/traces",
        "opentelemetry,resource=service.name=triton",
        f"opentelemetry,resource=service.namespace={stack.name}",
        f"opentelemetry,resource=service.instance.id={node.name}",
    ]


@pytest.mark.parametrize("host", ["ssh://root@192.0.2.1", "embedded"])
def test_a_stack_without_traces_is_as_if_there_were_none(host: str) -> None:
    stack = stack_of(host, "triton")
    [node] = stack.nodes
    assert "traces" not in service_settings(stack, node)["server"]
    assert trace_arguments(stack, node) == []
    assert trace_environment(stack) == {}
    assert service_source(stack) == stack.service.source


def test_the_image_of_a_traced_service_has_the_extra_and_another_tag() -> None:
    without = stack_of("ssh://root@192.0.2.1", "triton", service={"build": {"args": {"BASE_IMAGE": "x"}}})
    traced = stack_of(
        "ssh://root@192.0.2.1", "triton", service={"build": {"args": {"BASE_IMAGE": "x"}}}, traces=TRACES
    )
    plain, own = service_source(without), service_source(traced)
    assert isinstance(plain, Build) and isinstance(own, Build)
    assert own.args == {"REQUIREMENTS": "service-otel", "BASE_IMAGE": "x"}
    assert content_tag(own) != content_tag(plain)
    assert sources(traced, traced.nodes[0])["service"] == own
    files = dict(context_files(own.base / own.context, own.base / own.dockerfile))
    assert {"requirements/service.txt", "requirements/service-otel.txt"} <= files.keys()


@pytest.mark.parametrize("service", [{"image": "service:1"}, {"build": {"context": "elsewhere"}}])
def test_another_image_of_the_service_stays_as_it_is(service: dict[str, Any]) -> None:
    stack = stack_of("ssh://root@192.0.2.1", "triton", service=service, traces=TRACES)
    assert service_source(stack) == stack.service.source
