"""`Runtime` over another inference service's HTTP API."""

from __future__ import annotations

import logging
import ssl
from time import monotonic
from typing import Any, TypeVar

import httpx2
import msgspec
import numpy as np
from numpy.typing import NDArray

from inference_service import hops, tracing
from inference_service.audio import Audio, wav
from inference_service.errors import (
    BadRequest,
    Busy,
    Loop,
    NotReady,
    RuntimeFailed,
    RuntimeTimeout,
    ServiceError,
    TooLarge,
    Unsupported,
)
from inference_service.model_cards import ModelDescription, ModelRole
from inference_service.runtimes.base import Call, Readiness, refuse_options
from inference_service.settings import RemoteSettings, Settings, TlsSettings
from inference_service.tasks import (
    DetailedTranscript,
    EmotionResult,
    ModelStatus,
    SynthesisResult,
    Task,
    TranscribeOptions,
    Transcript,
)

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

#: Seconds for a check of readiness, which must end within one.
_HEALTH_TIMEOUT = 0.9

#: Seconds for which what the other service says of its models is reused.
_MAX_AGE = 10.0

_BASE = "/api/v1/ai"

#: The other service's statuses that mean the same error here.
_SAME_ERRORS: dict[int, type[ServiceError]] = {
    400: BadRequest,
    413: TooLarge,
    501: Unsupported,
    502: NotReady,
    503: NotReady,
    504: RuntimeTimeout,
    508: Loop,
}


class RemoteRuntime:
    """Forwards to the inference service at `settings.ai.http.endpoint`, with its token, timeout and TLS."""

    name = "remote"
    window_seconds: float | None = None

    def __init__(self, settings: Settings) -> None:
        self._remote = settings.ai.http
        self._node_id = settings.node_id
        self.address = self._remote.endpoint or ""
        self._models = settings.ai.models
        self.capabilities: frozenset[Task] = self._models.tasks
        self._described: dict[ModelRole, tuple[float, ModelDescription]] = {}

    async def start(self) -> None:
        """Set up the connections; the first request opens one. Raises OSError for unreadable TLS files."""
        self._http = _client(self._remote)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def readiness(self) -> Readiness:
        """The other service's health."""
        try:
            response = await self._send("GET", "/health", Call(""), time_limit=_HEALTH_TIMEOUT)
        except ServiceError as error:
            return Readiness(False, [str(error)])
        if response.status_code != 200:
            return Readiness(False, [str(self._refusal(response))])
        return Readiness(True)

    def known(self, role: ModelRole) -> ModelDescription | None:
        """What the other service said of its model, unless that was too long ago."""
        asked_at, description = self._described.get(role, (0.0, None))
        return description if monotonic() - asked_at < _MAX_AGE else None

    async def describe(self, role: ModelRole) -> ModelDescription:
        """What the other service's `/info` says of its model. One that has no such field says nothing."""
        response = await self._send("GET", "/info", Call(""), time_limit=_HEALTH_TIMEOUT)
        if response.status_code != 200:
            raise self._refusal(response)
        data = _envelope(response).get("data")
        told = data.get("model_cards", {}) if isinstance(data, dict) else {}
        cards = self._converted(told, dict[ModelRole, ModelDescription], "/info")
        card = cards.get(role) or ModelDescription(name=self._models.name_of(role) or "")
        self._described[role] = monotonic(), card
        return card

    async def warm(self, task: Task, call: Call) -> ModelStatus:
        """Ask the other service to warm the task's model."""
        body = {"meeting_id": call.meeting_id or None, "models": [task.model]}
        data = await self._post("/setup", call, json=body)
        models = data.get("models") if isinstance(data, dict) else None
        if not isinstance(models, dict) or task.model not in models:
            raise RuntimeFailed(f"{self._where}/setup: its answer has no data.models.{task.model}")
        return self._converted(models[task.model], ModelStatus, "/setup")

    async def transcribe(self, audio: Audio, options: TranscribeOptions, call: Call) -> DetailedTranscript:
        """Speech to text, without segments, because the API has none."""
        refuse_options(options, "a node that forwards to another service")
        query = {"language": options.language} if options.language else {}
        return DetailedTranscript(await self._infer("/asr", Transcript, audio, call, query))

    async def emotion_of_audio(self, audio: Audio, call: Call) -> EmotionResult:
        """The speaker's emotion."""
        return await self._infer("/emotion", EmotionResult, audio, call, {})

    async def emotion_of_text(self, text: str, call: Call) -> EmotionResult:
        """The emotion of a text."""
        body = {"text": text, **({"meeting_id": call.meeting_id} if call.meeting_id else {})}
        return self._converted(await self._post("/emotion", call, json=body), EmotionResult, "/emotion")

    async def detect_synthesis(self, audio: Audio, call: Call) -> SynthesisResult:
        """Whether the speech is synthetic."""
        return await self._infer("/synthesis", SynthesisResult, audio, call, {})

    @property
    def _where(self) -> str:
        return f"the remote service's {_BASE}"

    async def _infer(self, path: str, kind: type[_T], audio: Audio, call: Call, query: dict[str, str]) -> _T:
        if call.meeting_id:
            query["meeting_id"] = call.meeting_id
        header, samples = as_wav(audio)

        async def body() -> Any:  # an async iterator, so that the samples are sent without a copy
            yield header
            for start in range(0, len(samples), 1 << 18):
                yield bytes(samples[start : start + (1 << 18)])

        headers = {"Content-Type": "audio/wav", "Content-Length": str(len(header) + len(samples))}
        data = await self._post(path, call, params=query, content=body(), headers=headers)
        return self._converted(data, kind, path)

    async def _post(self, path: str, call: Call, **request: Any) -> Any:
        """The envelope's `data`. Raises the other service's error as the same error here."""
        response = await self._send("POST", path, call, time_limit=call.timeout, **request)
        if response.status_code != 200:
            raise self._refusal(response)
        envelope = _envelope(response)
        if "data" not in envelope:
            raise RuntimeFailed(f"{self._where}{path}: its answer has no field data")
        return envelope["data"]

    async def _send(
        self, method: str, path: str, call: Call, *, time_limit: float | None, **request: Any
    ) -> httpx2.Response:
        headers = {**request.pop("headers", {}), "Via": hops.passed_on(call.via, self._node_id)}
        if call.request_id:
            headers["X-Request-ID"] = call.request_id
        headers |= tracing.headers()
        limit = self._remote.timeout if time_limit is None else min(time_limit, self._remote.timeout)
        try:
            return await self._http.request(method, _BASE + path, headers=headers, timeout=limit, **request)
        except httpx2.TimeoutException as error:
            raise RuntimeTimeout(f"{self._where}{path} did not answer within {limit:g} s") from error
        except httpx2.TransportError as error:
            _log.warning("%s%s cannot be reached: %s", self.address, _BASE, error)
            raise NotReady("the remote service (ai.http.endpoint) cannot be reached") from error

    def _refusal(self, response: httpx2.Response) -> ServiceError:
        """The error for a status other than 200, with the other service's reason."""
        reason = str(_envelope(response).get("message") or response.reason_phrase)
        status = response.status_code
        retry_after = response.headers.get("retry-after", "")
        if status in (401, 403):
            return RuntimeFailed(f"{self._where} refuses the token (ai.http.token): {reason}")
        if status == 429 or (status == 503 and reason.startswith(Busy.BEGINS)):
            return Busy(reason, int(retry_after) if retry_after.isdecimal() else 1)
        if status in _SAME_ERRORS:
            return _SAME_ERRORS[status](reason)
        return RuntimeFailed(f"{self._where} answered {status}: {reason}")

    def _converted(self, data: Any, kind: type[_T], path: str) -> _T:
        try:
            return msgspec.convert(data, kind)
        except msgspec.ValidationError as error:
            raise RuntimeFailed(f"{self._where}{path}: its answer cannot be used: {error}") from error


def as_wav(audio: Audio) -> tuple[bytes, memoryview]:
    """The audio as a WAV file without another copy: its header, and its samples as decoded."""
    samples: NDArray[Any] = np.ascontiguousarray(audio.samples)
    channels = samples.shape[1] if samples.ndim == 2 else 1
    tag = wav.FLOAT if samples.dtype == np.float32 else wav.PCM
    header = wav.header(tag, channels, audio.sample_rate, samples.dtype.itemsize, samples.nbytes)
    return header, samples.reshape(-1).view(np.uint8).data


def _client(remote: RemoteSettings) -> httpx2.AsyncClient:
    headers = {}
    if remote.token is not None:
        headers["Authorization"] = f"Bearer {remote.token.get_secret_value()}"
    return httpx2.AsyncClient(
        base_url=remote.endpoint or "",
        headers=headers,
        verify=_tls(remote.tls),
        # Admission limits the work; this must not limit it a second time.
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=30),
    )


def _tls(tls: TlsSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(tls.ca_file) if tls.ca_file else None)
    if tls.cert_file is not None:
        context.load_cert_chain(tls.cert_file, tls.key_file)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _envelope(response: httpx2.Response) -> dict[str, Any]:
    """The answer's JSON object. Raises RuntimeFailed for anything else."""
    try:
        envelope = msgspec.json.decode(response.content)
    except msgspec.DecodeError:
        envelope = None
    if not isinstance(envelope, dict):
        raise RuntimeFailed(
            f"the remote service's {response.request.url.path} answered {response.status_code}, but not with "
            "this service's JSON"
        )
    return envelope
