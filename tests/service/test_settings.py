"""Settings: the original service's keys, every mistake at once, each key by environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference_service.settings import Settings, SettingsError, load, shares
from inference_service.tasks import Task

pytestmark = pytest.mark.fast

EXAMPLE = Path(__file__).parents[2] / "inference_service/config/ai-inference-service.yaml"


def problems(path: Path | None = None, **environment: str) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        load(path, environment)
    return raised.value.problems


def loaded(tmp_path: Path, text: str, **environment: str) -> tuple[Settings, list[str]]:
    path = tmp_path / "service.yaml"
    path.write_text(text)
    return load(path, environment)


def test_without_a_file_the_defaults_are_the_original_services_ports() -> None:
    settings, warnings = load(None, {})
    assert (settings.server.http_port, settings.server.grpc_port) == (8800, 9800)
    assert settings.ai.runtime.triton.grpc_address == "triton:8001"
    assert settings.backend == "triton"
    assert warnings == []


def test_the_example_file_says_the_defaults() -> None:
    settings, warnings = load(EXAMPLE, {})
    assert settings.model_dump() == load(None, {})[0].model_dump()
    assert warnings == []


def test_a_variable_may_hold_the_files_text_and_a_file_goes_before_it(tmp_path: Path) -> None:
    text = '{"server": {"workers": 3}, "ai": null}'
    assert load(None, {"AI_CONFIG_TEXT": text})[0].server.workers == 3
    assert load(None, {"AI_CONFIG_TEXT": text, "SERVER__WORKERS": "2"})[0].server.workers == 2
    assert loaded(tmp_path, "server: {workers: 4}", AI_CONFIG_TEXT=text)[0].server.workers == 4
    assert problems(AI_CONFIG_TEXT="- a") == ["AI_CONFIG_TEXT: expected keys (ai, server), got list"]
    assert problems(AI_CONFIG_TEXT="{")[0].startswith("AI_CONFIG_TEXT: is not YAML: ")


@pytest.mark.parametrize(
    ("endpoint", "address"),
    [
        ("http://triton:8000", "triton:8001"),
        ("http://192.0.2.7:18000/", "192.0.2.7:18001"),
        ("triton:8001", "triton:8001"),
        ("grpc://triton:9001", "triton:9001"),
        ("http://[2001:db8::1]:8000", "[2001:db8::1]:8001"),
    ],
)
def test_tritons_grpc_address_comes_from_either_endpoint(endpoint: str, address: str) -> None:
    settings, _ = load(None, {"AI__RUNTIME__TRITON__ENDPOINT": endpoint})
    assert settings.ai.runtime.triton.grpc_address == address


@pytest.mark.parametrize(
    ("environment", "backend"),
    [
        ({}, "triton"),
        ({"AI__RUNTIME__EDGE_LLM__ENDPOINT": "unit-manager:19001"}, "edge-llm"),
        ({"AI__HTTP__ENDPOINT": "https://ai.example.com"}, "remote"),
        ({"AI__HTTP__ENDPOINT": ""}, "triton"),
        ({"AI__HTTP__ENDPOINT": "https://ai.example.com", "AI__RUNTIME__BACKEND": "triton"}, "triton"),
    ],
)
def test_auto_takes_the_runtime_whose_endpoint_is_given(environment: dict[str, str], backend: str) -> None:
    assert load(None, environment)[0].backend == backend


def test_the_environment_beats_the_file(tmp_path: Path) -> None:
    settings, _ = loaded(tmp_path, "server: {workers: 3, http_port: 8801}", SERVER__WORKERS="5")
    assert (settings.server.workers, settings.server.http_port) == (5, 8801)


def test_lists_and_durations_are_read_as_people_write_them() -> None:
    settings, _ = load(
        None,
        {
            "SERVER__API_KEYS": "one, two",
            "AI__MODELS__ASR__OUTPUT_NAMES": '["text", "confidence"]',
            "AI__MODELS__ASR__TIMEOUT": "2m",
            "AI__REQUEST__TIMEOUT": "500ms",
        },
    )
    assert [key.get_secret_value() for key in settings.server.api_keys] == ["one", "two"]
    assert settings.ai.models.for_task(Task.ASR).output_names == ["text", "confidence"]
    assert settings.ai.models.asr.timeout == 120
    assert settings.ai.request.timeout == 0.5


def test_all_mistakes_are_reported_at_once_each_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "service.yaml"
    path.write_text(
        """
ai:
  runtime: {tritn: {}, triton: {endpoint: "ftp://triton"}}
  models: {asr: {input_type: audio}}
server: {workers: 0}
"""
    )
    errors = problems(path, SERVER__GRPC_PORT="99999")
    assert len(errors) == 5
    assert any(line.startswith("ai.runtime.tritn: unknown key; did you mean triton?") for line in errors)
    assert any(line.startswith("ai.runtime.triton: expected host:port") for line in errors)
    assert any(
        line.startswith("ai.models.asr.input_type: input should be 'waveform' or 'mel'") for line in errors
    )
    assert any(line.startswith("server.workers: ") and line.endswith("got 0") for line in errors)
    assert any(line.startswith("server.grpc_port (from SERVER__GRPC_PORT)") for line in errors)


def test_a_mistake_in_a_secret_does_not_show_it() -> None:
    errors = problems(SERVER__API_KEYS='["hunter2')
    assert "hunter2" not in " ".join(errors)
    assert errors[0].startswith("server.api_keys")


def test_remote_without_an_endpoint_is_a_mistake() -> None:
    assert problems(AI__RUNTIME__BACKEND="remote") == [
        "ai.http.endpoint: needed because ai.runtime.backend is remote"
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [("ai: [", "is not YAML"), ("[1, 2]", "expected keys"), ("\0", "is not YAML")],
)
def test_a_file_that_is_not_settings_is_reported(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "service.yaml"
    path.write_text(text)
    assert message in problems(path)[0]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "absent.yaml: cannot be read" in problems(tmp_path / "absent.yaml")[0]


def test_a_file_of_the_original_service_works_and_says_what_has_no_effect(tmp_path: Path) -> None:
    settings, warnings = loaded(
        tmp_path,
        """
server: {host: "127.0.0.1", port: 8085, mode: debug, read_timeout: 60, write_timeout: 60}
database: {driver: postgres}
redis: {host: redis}
ai:
  runtime:
    backend: triton
    triton: {endpoint: "http://triton:8000", timeout_ms: 60000}
    providers: [cuda, cpu]
    device_id: 0
  http: {endpoint: ""}
  models:
    asr:
      model_name: whisper-encoder
      model_path: ""
      input_name: mel
      output_names: [encoder_output]
      input_type: mel
      decoder_path: whisper-decoder
      decoder_input_names: [tokens, encoder_output]
      decoder_output_names: [logits]
      tokenizer_path: /models/whisper/whisper_vocab.json
      special_tokens_path: /models/whisper/whisper_special_tokens.json
      config_path: /models/whisper/whisper_config.json
      sample_rate: 16000
      channels: 1
      timeout: 30
      max_concurrent: 4
  request: {max_retries: 3, retry_delay: 1000, timeout: 30}
  streaming: {flush_interval_ms: 0, max_buffer_ms: 10000}
  cache: {enabled: true}
""",
    )
    assert settings.server.http_port == 8085
    assert settings.ai.runtime.triton.timeout == 60
    assert settings.ai.models.asr.decoder_path == "whisper-decoder"
    told = {line.split(":")[0] for line in warnings}
    assert told >= {
        "database",
        "redis",
        "server.mode",
        "ai.runtime.providers",
        "ai.request.max_retries",
        "ai.cache",
    }


def test_a_misspelt_section_is_a_warning_with_the_right_name(tmp_path: Path) -> None:
    _, warnings = loaded(tmp_path, "servers: {workers: 1}")
    assert warnings == ["servers: not a section of this service, ignored; did you mean server?"]


def test_the_workers_shares_of_a_limit_add_up_to_it_exactly(tmp_path: Path) -> None:
    settings, _ = loaded(
        tmp_path,
        """
ai:
  runtime: {edge_llm: {endpoint: "manager:10001", max_sessions: 16}}
  models: {asr: {max_concurrent: 5}}
server: {workers: 3, max_concurrency: 64, max_queue: 4, max_streams: 3}
""",
    )
    workers = [shares.for_worker(settings, index) for index in range(3)]
    assert [worker.server.max_concurrency for worker in workers] == [22, 21, 21]
    assert [worker.server.max_queue for worker in workers] == [2, 1, 1]
    assert [worker.server.max_streams for worker in workers] == [1, 1, 1]
    assert [worker.ai.models.asr.max_concurrent for worker in workers] == [2, 2, 1]
    assert [worker.ai.models.emotion.max_concurrent for worker in workers] == [None] * 3
    assert [worker.ai.runtime.edge_llm.max_sessions for worker in workers] == [6, 5, 5]
    assert settings.server.max_concurrency == 64, "the node's own settings changed"


def test_a_limit_that_leaves_a_worker_with_nothing_is_refused() -> None:
    environment = {
        "SERVER__WORKERS": "4",
        "SERVER__MAX_CONCURRENCY": "3",
        "SERVER__MAX_QUEUE": "0",  # no queue at all is allowed
        "AI__MODELS__ASR__MAX_CONCURRENT": "1",
        "AI__RUNTIME__EDGE_LLM__MAX_SESSIONS": "2",  # not used: the runtime is Triton
    }
    with pytest.raises(SettingsError) as error:
        load(None, environment)
    assert error.value.problems == [
        "server.max_concurrency: 3 is less than server.workers (4); "
        "ai.models.asr.max_concurrent: 1 is less than server.workers (4)"
    ]
    del environment["SERVER__MAX_CONCURRENCY"], environment["AI__MODELS__ASR__MAX_CONCURRENT"]
    load(None, environment)
    with pytest.raises(SettingsError, match=r"ai\.runtime\.edge_llm\.max_sessions: 2 is less than server"):
        load(None, {**environment, "AI__RUNTIME__EDGE_LLM__ENDPOINT": "manager:10001"})
