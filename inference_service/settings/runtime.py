"""Settings of `ai.runtime` and `ai.http`: which runtime runs the models, and its address."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from inference_service import addresses
from inference_service.settings.values import (
    HostPort,
    OptionalPath,
    Seconds,
    Section,
    host_port,
    http_url,
    none_if_empty,
)

BackendName = Literal["triton", "edge-llm", "remote"]


def _next_port(address: str) -> str:
    host, _, port = address.rpartition(":")
    return f"{host}:{int(port) + 1}"


class TritonSettings(Section):
    """Triton's address. Tensors go over gRPC, whether its HTTP or its gRPC address is given."""

    endpoint: str = Field(
        default=addresses.TRITON_URL, description="Triton's HTTP URL, or its gRPC host:port."
    )
    grpc_endpoint: Annotated[HostPort | None, BeforeValidator(none_if_empty)] = Field(
        default=None, description="Triton's gRPC host:port, if its port is not the HTTP port plus one."
    )
    metrics_endpoint: Annotated[HostPort | None, BeforeValidator(none_if_empty)] = Field(
        default=None, description="Triton's metrics host:port, if its port is not the gRPC port plus one."
    )
    shared_memory: Literal["auto", "off"] = Field(
        default="auto",
        description="auto: pass waveforms through /dev/shm, over gRPC if Triton refuses that.",
    )
    timeout: Seconds = Field(default=60.0, description="Seconds for one call to Triton.")

    @model_validator(mode="after")
    def _has_address(self) -> Self:
        _ = self.grpc_address
        return self

    @property
    def grpc_address(self) -> str:
        """`host:port` of Triton's gRPC service. Triton's gRPC port is the one after its HTTP port."""
        if self.grpc_endpoint:
            return self.grpc_endpoint
        if not self.endpoint.startswith("http://"):
            return host_port(self.endpoint.removeprefix("grpc://"))
        address = self.endpoint.removeprefix("http://").rstrip("/")
        return _next_port(host_port(address))

    @property
    def metrics_url(self) -> str:
        """Triton's metrics. Their port is the one after its gRPC port."""
        return f"http://{self.metrics_endpoint or _next_port(self.grpc_address)}/metrics"


class EdgeLlmSettings(Section):
    """Address of Edge-LLM's unit manager, and limits of its sessions."""

    endpoint: Annotated[HostPort | None, BeforeValidator(none_if_empty)] = Field(
        default=None,
        description=f"The unit manager's host:port; {addresses.UNIT_MANAGER} when the backend is edge-llm.",
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
        return self.endpoint or addresses.UNIT_MANAGER


class RuntimeSettings(Section):
    """Which runtime runs the models."""

    backend: Literal["auto", "triton", "edge-llm", "remote"] = "auto"
    triton: TritonSettings = TritonSettings()
    edge_llm: EdgeLlmSettings = EdgeLlmSettings()


class TlsSettings(Section):
    """TLS towards a remote inference service."""

    verify: bool = Field(default=True, description="Whether the server's certificate is checked.")
    ca_file: OptionalPath = Field(default=None, description="Certificates to trust instead of the system's.")
    cert_file: OptionalPath = Field(default=None, description="The client's certificate.")
    key_file: OptionalPath = Field(default=None, description="The client certificate's key.")

    @model_validator(mode="after")
    def _certificate_has_key(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together: give both or neither")
        return self


class RemoteSettings(Section):
    """Another inference service that the `remote` runtime forwards to."""

    endpoint: Annotated[Annotated[str, AfterValidator(http_url)] | None, BeforeValidator(none_if_empty)] = (
        Field(default=None, description="Its URL, without /api/v1/ai.")
    )
    token: Annotated[SecretStr | None, BeforeValidator(none_if_empty)] = Field(
        default=None, description="Sent as Authorization: Bearer."
    )
    timeout: Seconds = 60.0
    tls: TlsSettings = TlsSettings()
