"""The service's settings: one YAML file with the seeds' keys, every key also by environment.

`load` reads both and reports every mistake at once, each by the path of its key. The environment variable of
a key is its path in capitals with two underscores between the steps (`ai.runtime.triton.endpoint` is
`AI__RUNTIME__TRITON__ENDPOINT`) and beats the file.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from inference_service.tasks import Task

BackendName = Literal["triton", "edge-llm", "remote"]


class SettingsError(Exception):
    """The settings cannot be used; `problems` has a line for each mistake, beginning with the key's path."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


# Values as people write them ----------------------------------------------------------------------------

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)")
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def _seconds(value: object) -> object:
    """`30`, `"30"`, `"30s"`, `"500ms"`, `"2m"`: seconds."""
    if isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
        return float(match[1]) * _UNIT_SECONDS[match[2]]
    return value


def _items(value: object) -> object:
    """A list as it is; a text (from the environment) as a JSON array or comma-separated items."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"is not a JSON array: {error.msg}") from None
    return [item.strip() for item in value.split(",") if item.strip()]


def _nothing_if_empty(value: object) -> object:
    """The seeds' files write an unset text as `""`."""
    return None if value == "" else value


def _http_url(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/:@]+(:\d{1,5})?(/\S*)?", value):
        raise ValueError(f"expected http(s)://host[:port][/path], got {value!r}")
    return value.rstrip("/")


_HOST_PORT = re.compile(r"(?:\[[0-9a-fA-F:]+\]|[^\s/:@]+):(\d{1,5})")


def _host_port(value: str) -> str:
    match = _HOST_PORT.fullmatch(value)
    if not match or not 0 < int(match[1]) < 65536:
        raise ValueError(f"expected host:port, got {value!r}")
    return value


Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0, allow_inf_nan=False)]
Names = Annotated[list[str], BeforeValidator(_items)]
OptionalText = Annotated[str | None, BeforeValidator(_nothing_if_empty)]
OptionalPath = Annotated[Path | None, BeforeValidator(_nothing_if_empty)]
HostPort = Annotated[str, AfterValidator(_host_port)]
Port = Annotated[int, Field(ge=1, le=65535)]


class _Group(BaseModel):
    """A group of keys; unknown ones are mistakes."""

    # `model_` is pydantic's own prefix; here it belongs to the seeds' key `model_name`.
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, protected_namespaces=())


# ai.runtime ---------------------------------------------------------------------------------------------


class TritonSettings(_Group):
    """Where Triton is. Tensors go over gRPC, whichever of its addresses is given."""

    endpoint: str = Field(
        default="http://triton:8000", description="Triton's HTTP URL, or its gRPC host:port."
    )
    grpc_endpoint: Annotated[HostPort | None, BeforeValidator(_nothing_if_empty)] = Field(
        default=None, description="Triton's gRPC host:port where it is not the HTTP port plus one."
    )
    shared_memory: Literal["auto", "off"] = Field(
        default="auto",
        description="auto: pass waveforms through /dev/shm, over gRPC where Triton refuses that.",
    )
    timeout: Seconds = Field(default=60.0, description="Seconds for one call to Triton.")

    @model_validator(mode="after")
    def _has_address(self) -> TritonSettings:
        _ = self.grpc_address
        return self

    @property
    def grpc_address(self) -> str:
        """`host:port` of Triton's gRPC service. Triton's ports are consecutive: HTTP 8000, gRPC 8001."""
        if self.grpc_endpoint:
            return self.grpc_endpoint
        if not self.endpoint.startswith("http://"):
            return _host_port(self.endpoint.removeprefix("grpc://"))
        address = self.endpoint.removeprefix("http://").rstrip("/")
        host, _, port = _host_port(address).rpartition(":")
        return f"{host}:{int(port) + 1}"


class EdgeLlmSettings(_Group):
    """Where the unit manager of Edge-LLM is, and how long its sessions live."""

    endpoint: Annotated[HostPort | None, BeforeValidator(_nothing_if_empty)] = Field(
        default=None,
        description="The unit manager's host:port; unit-manager:19001 when the backend is edge-llm.",
    )
    connect_timeout: Seconds = 5.0
    timeout: Seconds = Field(default=60.0, description="Seconds for one setup or one inference.")
    session_idle_timeout: Seconds = Field(
        default=900.0, description="Seconds after which an unused session is closed."
    )
    max_sessions: int = Field(
        default=16,
        ge=1,
        description="Sessions open at once on this node, over all workers; the stock llm node takes 20.",
    )

    @property
    def address(self) -> str:
        """`host:port` of the unit manager."""
        return self.endpoint or "unit-manager:19001"


class RuntimeSettings(_Group):
    """Which runtime runs the models."""

    backend: Literal["auto", "triton", "edge-llm", "remote"] = "auto"
    triton: TritonSettings = TritonSettings()
    edge_llm: EdgeLlmSettings = EdgeLlmSettings()


# ai.http ------------------------------------------------------------------------------------------------


class TlsSettings(_Group):
    """TLS towards a remote inference service."""

    verify: bool = Field(default=True, description="Whether the server's certificate is checked.")
    ca_file: OptionalPath = Field(default=None, description="Certificates to trust instead of the system's.")
    cert_file: OptionalPath = Field(default=None, description="The client's certificate.")
    key_file: OptionalPath = Field(default=None, description="The client certificate's key.")

    @model_validator(mode="after")
    def _certificate_has_key(self) -> TlsSettings:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together: give both or neither")
        return self


class RemoteSettings(_Group):
    """Another inference service that the `remote` runtime forwards to."""

    endpoint: Annotated[
        Annotated[str, AfterValidator(_http_url)] | None, BeforeValidator(_nothing_if_empty)
    ] = Field(default=None, description="Its URL, without /api/v1/ai.")
    token: Annotated[SecretStr | None, BeforeValidator(_nothing_if_empty)] = Field(
        default=None, description="Sent as Authorization: Bearer."
    )
    timeout: Seconds = 60.0
    tls: TlsSettings = TlsSettings()


# ai.models ----------------------------------------------------------------------------------------------


class ModelSettings(_Group):
    """One model: its name in the runtime and the tensors by which it is called."""

    enabled: bool = Field(default=True, description="false: the node does not offer this task (501).")
    model_name: str = Field(min_length=1)
    model_path: OptionalText = Field(
        default=None, description="Shown by /setup; the runtime knows its own paths."
    )
    input_name: str = Field(default="audio_input", min_length=1)
    output_names: Names = Field(min_length=1)
    input_type: Literal["waveform", "mel"] = "waveform"
    labels_path: OptionalPath = None
    sample_rate: int = Field(default=16000, ge=1000, le=384000, description="Hz that the model takes.")
    channels: Literal[1] = Field(default=1, description="Models here take mono; other audio is mixed down.")
    timeout: Seconds = 30.0
    max_concurrent: int | None = Field(
        default=None, ge=1, description="Inferences of this model at once on this node."
    )


class AsrModelSettings(ModelSettings):
    """Speech recognition: one model from waveform to text, or an encoder with a decoder beside it."""

    model_name: str = Field(default="asr", min_length=1)
    output_names: Names = Field(default=["text", "confidence", "language", "segments"], min_length=1)
    timeout: Seconds = 120.0
    decoder_path: OptionalText = Field(
        default=None, description="The decoder's model name; set: an encoder/decoder pair."
    )
    decoder_input_names: Names = ["tokens", "encoder_output"]
    decoder_output_names: Names = ["logits"]
    tokenizer_path: OptionalPath = None
    special_tokens_path: OptionalPath = None
    config_path: OptionalPath = None


class EmotionModelSettings(ModelSettings):
    """Emotion: of audio through `model_name`, of text through `text_model_name`."""

    model_name: str = Field(default="emotion", min_length=1)
    text_model_name: OptionalText = Field(
        default="emotion-text", description="Empty: emotion of text is not offered."
    )
    output_names: Names = Field(default=["logits"], min_length=1)


class SynthesisModelSettings(ModelSettings):
    """Synthetic-speech detection."""

    model_name: str = Field(default="synthesis", min_length=1)
    output_names: Names = Field(default=["synthesis_output"], min_length=1)
    input_type: Literal["waveform", "mel"] = "mel"


class ModelsSettings(_Group):
    """The three models."""

    asr: AsrModelSettings = AsrModelSettings()
    emotion: EmotionModelSettings = EmotionModelSettings()
    synthesis: SynthesisModelSettings = SynthesisModelSettings()

    def of(self, task: Task) -> ModelSettings:
        """The model that does `task`."""
        model: ModelSettings = getattr(self, task.model)
        return model

    @property
    def tasks(self) -> frozenset[Task]:
        """The tasks whose model is enabled."""
        return frozenset(task for task in Task if self.of(task).enabled)


# ai.request, ai.streaming -------------------------------------------------------------------------------


class RequestSettings(_Group):
    """Limits of one request, and how Edge-LLM requests are cut into frames."""

    timeout: Seconds = Field(
        default=150.0, description="Seconds for one inference, whatever the model's own limit."
    )
    max_body_bytes: int = Field(default=100_000_000, ge=1, description="100 MB.")
    max_audio_seconds: float = Field(default=1800.0, gt=0, description="Longest audio of one request.")
    max_text_characters: int = Field(default=100_000, ge=1, description="Longest text of one request.")
    upload_timeout: Seconds = Field(
        default=60.0, description="Seconds within which a request's body must arrive."
    )
    max_batch_tasks: int = Field(default=256, ge=1, description="Most tasks in one /batch.")
    max_single_delta_len: int = Field(
        default=2048, ge=1, description="Edge-LLM: a longer text is cut into frames."
    )
    audio_stream_chunk_size: int = Field(default=512, ge=1, description="Edge-LLM: characters in one frame.")
    audio_stream_chunk_delay_ms: float = Field(
        default=10.0, ge=0, description="Edge-LLM: milliseconds between frames."
    )


class StreamingSettings(_Group):
    """Streams of audio (gRPC and WebSocket)."""

    flush_interval_ms: int = Field(
        default=0, ge=0, description="Milliseconds between results; 0: never by time."
    )
    max_buffer_ms: int = Field(
        default=10_000, ge=100, description="Milliseconds of audio after which a stream is flushed."
    )
    idle_timeout: Seconds = Field(
        default=300.0, description="Seconds without a chunk after which a stream is ended."
    )


class AiSettings(_Group):
    """Everything about inference: the seeds' `ai` section."""

    runtime: RuntimeSettings = RuntimeSettings()
    http: RemoteSettings = RemoteSettings()
    models: ModelsSettings = ModelsSettings()
    request: RequestSettings = RequestSettings()
    streaming: StreamingSettings = StreamingSettings()


# server -------------------------------------------------------------------------------------------------


class ServerSettings(_Group):
    """The process: addresses, workers, limits of the whole node."""

    host: str = Field(default="0.0.0.0", min_length=1)
    http_port: Port = 8800
    grpc_port: Port = 9800
    workers: int = Field(default=2, ge=1, le=256)
    max_concurrency: int = Field(
        default=64, ge=1, description="Inferences at once on this node, over all workers."
    )
    max_queue: int = Field(default=128, ge=0, description="Inferences waiting for a place, over all workers.")
    queue_timeout: Seconds = Field(default=10.0, description="Seconds that an inference waits for a place.")
    max_streams: int = Field(
        default=4096,
        ge=1,
        description="Open audio streams on this node, over all workers; idle ones cost little.",
    )
    shutdown_grace: Seconds = Field(default=30.0, description="Seconds after SIGTERM for what is running.")
    hang_timeout: Seconds = Field(
        default=5.0, description="Seconds after which a worker whose event loop stands still is replaced."
    )
    api_keys: Annotated[list[SecretStr], BeforeValidator(_items)] = Field(
        default=[], description="Any of them is accepted; none: no key is asked for."
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    runtime_dir: OptionalPath = Field(
        default=None,
        description="What the workers share: metrics, results by task id. Default: under the system's /tmp.",
    )
    results_max: int = Field(default=10_000, ge=1, description="Results kept by task id.")
    results_ttl: Seconds = Field(default=3600.0, description="Seconds for which a result is kept by task id.")

    def per_worker(self, node_limit: int) -> int:
        """One worker's share of a limit that holds for the whole node."""
        return math.ceil(node_limit / self.workers)

    @property
    def directory(self) -> Path:
        """The runtime directory of this node's service (one for each HTTP port)."""
        return self.runtime_dir or Path(tempfile.gettempdir()) / f"ai-inference-service-{self.http_port}"


class Settings(_Group):
    """All of it."""

    ai: AiSettings = AiSettings()
    server: ServerSettings = ServerSettings()

    @model_validator(mode="after")
    def _remote_has_endpoint(self) -> Settings:
        if self.ai.runtime.backend == "remote" and not self.ai.http.endpoint:
            raise ValueError("ai.http.endpoint: needed because ai.runtime.backend is remote")
        return self

    @property
    def backend(self) -> BackendName:
        """The runtime to use: the configured one; for `auto`, what the given endpoints say."""
        if self.ai.runtime.backend != "auto":
            return self.ai.runtime.backend
        if self.ai.http.endpoint:
            return "remote"
        return "edge-llm" if self.ai.runtime.edge_llm.endpoint else "triton"


# Loading ------------------------------------------------------------------------------------------------

#: Keys that an existing file of the seeds' system has and that mean nothing here, with what to use instead.
OBSOLETE = {
    "server.mode": "use server.log_level",
    "server.read_timeout": "use ai.request.upload_timeout",
    "server.write_timeout": "use ai.request.timeout",
    "ai.runtime.providers": "Triton chooses its devices in config.pbtxt",
    "ai.runtime.device_id": "Triton chooses its devices in config.pbtxt",
    "ai.runtime.library_path": "models run in Triton, not in this process",
    "ai.runtime.intra_op_threads": "models run in Triton, not in this process",
    "ai.runtime.inter_op_threads": "models run in Triton, not in this process",
    "ai.runtime.enable_fp16": "models run in Triton, not in this process",
    "ai.runtime.enable_tensorrt": "models run in Triton, not in this process",
    "ai.request.max_retries": "the gateway tries the next node",
    "ai.request.retry_delay": "the gateway tries the next node",
    "ai.cache": "results are not cached",
    "ai.rate_limit": "the gateway limits rates",
}


def load(path: Path | None, environ: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """Read the settings from the YAML file at `path` (None: defaults) and from `environ`, which wins.

    Returns the settings and the warnings: one line for each key of the file that has no effect here.
    Raises SettingsError with every mistake in both.
    """
    return check(_read_yaml(path) if path else {}, environ)


def check(data: dict[str, Any], environ: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """The settings in `data`, which is changed, and in `environ`; as `load` otherwise."""
    warnings = _drop_what_is_not_ours(data)
    variables = _overlay_environment(data, environ)
    try:
        return Settings.model_validate(data), warnings
    except ValidationError as error:
        raise SettingsError(sorted(_problem(item, variables) for item in error.errors())) from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError([f"{path}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise SettingsError([f"{path}: is not UTF-8 text"]) from None
    except yaml.YAMLError as error:
        raise SettingsError([f"{path}: is not YAML: {' '.join(str(error).split())}"]) from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise SettingsError([f"{path}: expected keys (ai, server), got {type(data).__name__}"])
    # An empty section (`ai:` with everything under it commented out) means its defaults.
    return _without_empty_sections(data)


def _without_empty_sections(data: dict[Any, Any]) -> dict[str, Any]:
    return {
        str(key): _without_empty_sections(value) if isinstance(value, dict) else value
        for key, value in data.items()
        if value is not None
    }


def _drop_what_is_not_ours(data: dict[str, Any]) -> list[str]:
    """Take out of `data` what other systems own and what is obsolete; returns a warning for each.

    Renamed keys of the seeds are moved to their names here.
    """
    warnings = []
    for section in sorted(set(data) - set(Settings.model_fields)):
        near = difflib.get_close_matches(section, Settings.model_fields, n=1, cutoff=0.75)
        hint = f"; did you mean {near[0]}?" if near else ""
        warnings.append(f"{section}: not a section of this service, ignored{hint}")
        del data[section]
    for path, instead in OBSOLETE.items():
        *parents, key = path.split(".")
        group = _descend(data, parents)
        if key in group:
            warnings.append(f"{path}: has no effect: {instead}")
            del group[key]
    server = _descend(data, ["server"])
    if "port" in server:
        server.setdefault("http_port", server.pop("port"))
    triton = _descend(data, ["ai", "runtime", "triton"])
    if "timeout_ms" in triton:
        triton.setdefault("timeout", f"{triton.pop('timeout_ms')}ms")
    return warnings


def _descend(data: dict[str, Any], steps: list[str]) -> dict[str, Any]:
    """The group at `steps`, an empty one where there is none."""
    group: Any = data
    for step in steps:
        group = group.get(step) if isinstance(group, dict) else None
    return group if isinstance(group, dict) else {}


def _overlay_environment(data: dict[str, Any], environ: Mapping[str, str]) -> dict[tuple[str, ...], str]:
    """Set in `data` what `AI__…` and `SERVER__…` variables say; returns path -> variable, for messages."""
    variables = {}
    prefixes = tuple(f"{name.upper()}__" for name in Settings.model_fields)
    for variable in sorted(environ):
        if not variable.upper().startswith(prefixes):
            continue
        path = tuple(variable.lower().split("__"))
        group = data
        for step in path[:-1]:
            inner = group.get(step)
            if not isinstance(inner, dict):
                inner = group[step] = {}
            group = inner
        group[path[-1]] = environ[variable]
        variables[path] = variable
    return variables


def _problem(error: Any, variables: Mapping[tuple[str, ...], str]) -> str:
    """One line for one pydantic error: the key's path, what is wrong, what is allowed."""
    steps = tuple(str(step) for step in error["loc"])
    path = ".".join(steps)
    origin = next((f" (from {name})" for at, name in variables.items() if steps[: len(at)] == at), "")
    if error["type"] == "extra_forbidden":
        allowed = sorted(_fields_of(steps[:-1]))
        near = difflib.get_close_matches(steps[-1], allowed, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        return f"{path}: unknown key{origin}; {hint}allowed here: {', '.join(allowed)}"
    reason = error["msg"].removeprefix("Value error, ")
    if error["type"] != "value_error":
        reason = reason[:1].lower() + reason[1:]
        if not any(secret in path for secret in ("token", "api_keys")) and error["type"] != "missing":
            reason += f", got {error['input']!r}"
    return f"{path}{origin}: {reason}" if path else reason


def _fields_of(steps: tuple[str, ...]) -> list[str]:
    """The keys allowed in the group at `steps`."""
    group: type[BaseModel] = Settings
    for step in steps:
        field = group.model_fields.get(step)
        kinds = (field.annotation, *get_args(field.annotation)) if field else ()
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if inner is None:
            return []
        group = inner
    return list(group.model_fields)
