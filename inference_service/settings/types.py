"""The settings as one type: the sections `ai` and `server`, with defaults and limits."""

import secrets
import tempfile
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, PrivateAttr, SecretStr, model_validator

from inference_service import addresses
from inference_service.settings import shares
from inference_service.settings.models import ModelsSettings
from inference_service.settings.runtime import BackendName, RemoteSettings, RuntimeSettings
from inference_service.settings.traces import TracesSettings
from inference_service.settings.values import (
    OptionalPath,
    OptionalText,
    Origins,
    Port,
    Seconds,
    Section,
    none_if_empty,
    split_items,
)

#: Bytes that a node may hold for its clients where the settings do not say.
DEFAULT_BYTE_BUDGET = 1_000_000_000
#: The largest bodies that fit into a worker's budget at least. One takes three: its parts while they are
#: joined, then its audio; and requests may not use the whole budget.
LARGEST_BODIES = 4


class RequestSettings(Section):
    """Limits of one request, and how Edge-LLM requests are cut into frames."""

    timeout: Seconds = Field(
        default=150.0, description="Seconds for one inference, whatever the model's own limit."
    )
    recording_timeout: Seconds = Field(
        default=1800.0, description="Seconds for one long recording, over all its windows."
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


class StreamingSettings(Section):
    """Streams of audio (gRPC and WebSocket)."""

    flush_interval_ms: int = Field(
        default=0, ge=0, description="Milliseconds between flushes; 0: no flush by time."
    )
    max_buffer_ms: int = Field(
        default=10_000, ge=100, description="Milliseconds of audio after which a stream is flushed."
    )
    idle_timeout: Seconds = Field(
        default=300.0, description="Seconds without a chunk after which a stream is ended."
    )
    max_lag: Seconds = Field(
        default=5.0,
        description="Seconds by which final results may be late before the node refuses further streams.",
    )


class AiSettings(Section):
    """Settings of inference: the section `ai`, as in the original service."""

    runtime: RuntimeSettings = RuntimeSettings()
    http: RemoteSettings = RemoteSettings()
    models: ModelsSettings = ModelsSettings()
    request: RequestSettings = RequestSettings()
    streaming: StreamingSettings = StreamingSettings()


class ServerTlsSettings(Section):
    """A second pair of listeners, with mutual TLS: only a client with a certificate of `client_ca` gets in.

    The plain listeners stay, for checks on the node's own machine.
    """

    certificate: OptionalText = Field(
        default=None,
        description="The node's certificate chain: the path of a PEM file, or its text. "
        "Without it there is no TLS.",
    )
    key: Annotated[SecretStr | None, BeforeValidator(none_if_empty)] = Field(
        default=None, description="Its private key, likewise."
    )
    client_ca: OptionalText = Field(
        default=None, description="The certificate authority of the clients that are let in, likewise."
    )
    http_port: Port = addresses.HTTP_TLS_PORT
    grpc_port: Port = addresses.GRPC_TLS_PORT

    @model_validator(mode="after")
    def _all_or_none(self) -> Self:
        files = {"certificate": self.certificate, "key": self.key, "client_ca": self.client_ca}
        missing = [name for name, path in files.items() if path is None]
        if 0 < len(missing) < len(files):
            raise ValueError(f"certificate, key and client_ca belong together: {', '.join(missing)} missing")
        return self

    @property
    def files(self) -> tuple[str, str, str] | None:
        """The certificate, its key and the clients' authority, each a path or a text; None without TLS."""
        if self.certificate is None or self.key is None or self.client_ca is None:
            return None
        return self.certificate, self.key.get_secret_value(), self.client_ca


class ServerSettings(Section):
    """The process: addresses, workers, limits of the whole node."""

    host: str = Field(default="0.0.0.0", min_length=1)
    http_port: Port = addresses.HTTP_PORT
    grpc_port: Port = addresses.GRPC_PORT
    tls: ServerTlsSettings = ServerTlsSettings()
    workers: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Processes. One answers some thousand requests a second.",
    )
    max_concurrency: int = Field(
        default=64, ge=1, description="Inferences at once on this node, over all workers."
    )
    max_queue: int = Field(
        default=128, ge=0, description="Inferences that wait for a slot, over all workers."
    )
    queue_timeout: Seconds = Field(default=10.0, description="Seconds that an inference waits for a slot.")
    max_streams: int = Field(
        default=4096,
        ge=1,
        description="Open audio streams on this node, over all workers; idle streams cost little.",
    )
    byte_budget: int | None = Field(
        default=None,
        ge=1,
        description="Bytes of request bodies, decoded audio and stream buffers that this node holds at once, "
        "over all workers. Default: 1 GB, or four of the largest bodies for each worker if that is more.",
    )
    shutdown_grace: Seconds = Field(
        default=30.0, description="Seconds after SIGTERM in which running requests may finish."
    )
    hang_timeout: Seconds = Field(
        default=5.0, description="Seconds after which a worker whose event loop is blocked is replaced."
    )
    api_keys: Annotated[list[SecretStr], BeforeValidator(split_items)] = Field(
        default=[], description="Any of them is accepted; empty: requests need no key."
    )
    cors_origins: Origins = Field(
        default=[],
        description="Origins of web pages that may call the API from a browser, beside the service's own.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    traces: TracesSettings = TracesSettings()
    runtime_dir: OptionalPath = Field(
        default=None,
        description="Files that the workers share (metrics, results). Default: under the system's /tmp.",
    )
    results_max: int = Field(default=10_000, ge=1, description="Results kept by task id.")
    results_ttl: Seconds = Field(default=3600.0, description="Seconds for which a result is kept by task id.")

    @property
    def directory(self) -> Path:
        """The runtime directory of this node's service (one for each HTTP port)."""
        return self.runtime_dir or Path(tempfile.gettempdir()) / f"ai-inference-service-{self.http_port}"


class Settings(Section):
    """All settings of the service."""

    ai: AiSettings = AiSettings()
    server: ServerSettings = ServerSettings()
    #: The node's name in `Via`, the same in all of its workers.
    _node_id: str = PrivateAttr(default_factory=lambda: secrets.token_hex(8))

    @property
    def node_id(self) -> str:
        """A name of this node that no other has, for as long as it runs."""
        return self._node_id

    @model_validator(mode="after")
    def _remote_has_endpoint(self) -> Self:
        if self.ai.runtime.backend == "remote" and not self.ai.http.endpoint:
            raise ValueError("ai.http.endpoint: needed because ai.runtime.backend is remote")
        return self

    @model_validator(mode="after")
    def _limits_reach_every_worker(self) -> Self:
        if problems := shares.too_small(self):
            raise ValueError("; ".join(problems))
        return self

    @model_validator(mode="after")
    def _largest_body_fits(self) -> Self:
        share, body = self.byte_budget // self.server.workers, self.ai.request.max_body_bytes
        if share < LARGEST_BODIES * body:
            raise ValueError(
                f"server.byte_budget: {share} bytes for each of {self.server.workers} workers are not enough "
                f"to read and decode a body of ai.request.max_body_bytes ({body}); at least "
                f"{LARGEST_BODIES * body} are"
            )
        return self

    @property
    def byte_budget(self) -> int:
        """Bytes that the node holds for its clients: the configured number, or the default for its size."""
        largest = self.server.workers * LARGEST_BODIES * self.ai.request.max_body_bytes
        return self.server.byte_budget or max(DEFAULT_BYTE_BUDGET, largest)

    @property
    def backend(self) -> BackendName:
        """The runtime to use: the configured one; for `auto`, the one whose endpoint is set."""
        if self.ai.runtime.backend != "auto":
            return self.ai.runtime.backend
        if self.ai.http.endpoint:
            return "remote"
        return "edge-llm" if self.ai.runtime.edge_llm.endpoint else "triton"
