"""A node: its runtime, its models, its inference service, and a real recording sent to it."""

from __future__ import annotations

import asyncio
import functools
import io
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import soundfile
from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2
from tritonclient.grpc import service_pb2 as pb

from inference_service import diagnosis
from inference_service.settings import Settings, SettingsError
from inference_service.settings import load as load_settings
from infra.doctor.advice import advice
from infra.doctor.findings import Outcome, ok, problem, warning, worst
from infra.doctor.linter import Listing, lint
from infra.doctor.reach import NoAnswer, Reach, Unreachable
from infra.doctor.web import Site
from infra.paths import RECORDING
from infra.stack import Node

#: So much of the recording is sent: enough for a sentence, and short for an Edge-LLM node that is fed slowly.
SPOKEN_SECONDS = 3
INFERENCE_SECONDS = 25.0
_BASE = "/api/v1/ai"
_LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")


@dataclass(frozen=True, slots=True)
class InUse:
    """The settings that a service really runs with: its file's text and its environment."""

    file: str
    environment: Mapping[str, str] = field(repr=False)

    def settings(self) -> Settings:
        """As the service itself reads them. Raises SettingsError in the words of its start-up."""
        with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
            file.write(self.file)
            file.flush()
            try:
                return load_settings(Path(file.name), self.environment)[0]
            except SettingsError as error:
                raise SettingsError([line.replace(f"{file.name}: ", "") for line in error.problems]) from None


class Place(Protocol):
    """Where a node's parts are; containers on a host, or processes here."""

    node: Node

    @property
    def reach(self) -> Reach | None:
        """How its host is reached; None for processes here."""

    #: Triton's gRPC address as the service has to have it.
    triton_address: str
    #: The commands that show Triton's log, and that start it again.
    triton_log: str
    triton_start: str
    service_log: str
    service_start: str

    def service(self) -> Site:
        """The service's HTTP API."""

    def triton(self) -> Site:
        """Triton's HTTP API."""

    def unit_manager(self) -> tuple[str, int]:
        """The unit manager's address and port."""

    async def in_use(self) -> InUse:
        """The service's settings. Raises NoAnswer with the reason why they cannot be had."""

    async def repository(self) -> tuple[str, Listing]:
        """The folder that Triton reads, and what is in it. Raises NoAnswer."""


class NodeChecks:
    """The questions to one node."""

    def __init__(self, place: Place, api_key: str | None) -> None:
        """`api_key` is one that was given to the doctor; None: the service's own settings have one."""
        self.place = place
        self.node = place.node
        self._given_key = api_key
        self._settings: Settings | None = None

    # Settings and models --------------------------------------------------------------------------------

    async def settings(self) -> Outcome:
        """Whether the service can start with the settings that it has."""
        try:
            in_use = await self.place.in_use()
            self._settings = in_use.settings()
        except NoAnswer as error:
            return problem(str(error), self.place.service_start)
        except SettingsError as error:
            return problem(
                "\n".join(error.problems),
                "correct service.config and service.env in the stack file, then `pulumi up`",
            )
        wanted = self.node.runtime
        if self._settings.backend != wanted:
            return problem(
                f"the service uses the runtime {self._settings.backend}, and the stack says {wanted}",
                "take ai.runtime.backend and AI__RUNTIME__BACKEND out of service.config and service.env; "
                "then `pulumi up`",
            )
        tasks = ", ".join(sorted(task.model for task in self._settings.ai.models.tasks))
        return ok(f"runtime {wanted}; tasks {tasks}")

    def _known_settings(self) -> Settings:
        assert self._settings is not None, "the check `settings` comes first"
        return self._settings

    async def model_folder(self) -> Outcome:
        """The linter on the folder that Triton reads."""
        try:
            folder, listing = await self.place.repository()
        except NoAnswer as error:
            return problem(str(error), "check models.path, and that it is mounted into Triton's container")
        faults = lint(listing, self._settings.ai.models if self._settings is not None else None)
        return worst(
            [problem(f"{folder}/{fault}", fault.remedy) for fault in faults],
            f"{folder}: {', '.join(listing.models)}",
        )

    # Triton ---------------------------------------------------------------------------------------------

    async def triton_endpoint(self) -> Outcome:
        """Whether the service looks for Triton where Triton is."""
        triton = self._known_settings().ai.runtime.triton
        wanted = self.place.triton_address
        if _same_address(triton.grpc_address, wanted):
            return ok(f"the service calls Triton at {triton.grpc_address}")
        key = "ai.runtime.triton.grpc_endpoint" if triton.grpc_endpoint else "ai.runtime.triton.endpoint"
        value = triton.grpc_endpoint or triton.endpoint
        return problem(
            f"{key} is {value}: the service calls Triton at {triton.grpc_address}, and Triton is at {wanted}",
            f"take {key} (AI__RUNTIME__TRITON__…) out of service.config and service.env, or set it to "
            f"{wanted}; then `pulumi up`",
        )

    async def triton_live(self) -> Outcome:
        """Whether Triton answers at all."""
        site = self.place.triton()
        try:
            answer = await site.get("/v2/health/live")
        except (Unreachable, NoAnswer) as error:
            return problem(
                f"Triton is not ready: {error} (Triton at {site.url})",
                f"{self.place.triton_start}; its log: {self.place.triton_log}",
            )
        if answer.status != 200:
            return problem(
                f"Triton is not ready: {answer.reason} (Triton at {site.url})", self.place.triton_start
            )
        return ok(f"{site.url} is live")

    async def triton_models(self) -> Outcome:
        """Triton's own word on every model that the service uses, and on itself."""
        wanted = list(diagnosis.contracts(self._known_settings().ai.models))
        try:
            ready, index = await asyncio.gather(
                self.place.triton().get("/v2/health/ready"),
                self.place.triton().post("/v2/repository/index", b"{}"),
            )
            states = _states(index.json())
        except (Unreachable, NoAnswer) as error:
            return problem(f"Triton does not answer: {error}", self.place.triton_start)
        outcomes = []
        for model in wanted:
            state, reason = states.get(model, ("", "it is not in the model repository"))
            if state != "READY":
                said = reason or state.lower() or "it is not loaded"
                seen = f"model {model} is not ready: {said}"
                outcomes.append(problem(seen, advice(seen, self.place.triton_start)))
        if not outcomes and ready.status != 200:
            others = [
                f"{name} ({reason or state})" for name, (state, reason) in states.items() if state != "READY"
            ]
            outcomes.append(
                warning(
                    f"Triton at {self.place.triton().url} says that it is not ready"
                    + (f": {'; '.join(others)}" if others else ""),
                    "mend or remove the models that the service does not use and that do not load",
                )
            )
        return worst(outcomes, f"READY: {', '.join(wanted)}")

    async def triton_tensors(self) -> Outcome:
        """Each model's tensors in Triton against those by which the service calls it."""
        triton = self.place.triton()
        wanted = diagnosis.contracts(self._known_settings().ai.models)

        async def of(model: str) -> list[str]:
            metadata, config = await asyncio.gather(
                triton.get(f"/v2/models/{model}"), triton.get(f"/v2/models/{model}/config")
            )
            if metadata.status != 200 or config.status != 200:
                return []  # not ready, which is a finding of its own
            there = diagnosis.Interface.of(
                _message(metadata.json(), pb.ModelMetadataResponse()),
                _message(config.json(), model_config_pb2.ModelConfig()),
            )
            return diagnosis.mismatches(wanted[model], there)

        try:
            said = [line for lines in await asyncio.gather(*map(of, wanted)) for line in lines]
        except (Unreachable, NoAnswer) as error:
            return problem(f"Triton does not answer: {error}", self.place.triton_start)
        return worst(
            [problem(line, advice(line, self.place.triton_start)) for line in said],
            "names, datatypes and shapes match",
        )

    # Edge-LLM -------------------------------------------------------------------------------------------

    async def edge_llm_setup(self) -> Outcome:
        """A setup of the speech model through the unit manager, as the service does it, and its exit."""
        address, port = self.place.unit_manager()
        at = f"the unit manager at {address}:{port}"
        try:
            return await self._setup(at, address, port)
        except Unreachable as error:
            seen = f"{at} cannot be reached: {error}"
            return problem(seen, advice(seen, self.place.service_start))

    async def _setup(self, at: str, address: str, port: int) -> Outcome:
        assert self.place.reach is not None  # there are no embedded Edge-LLM nodes
        model = self._known_settings().ai.models.asr.model_name
        async with self.place.reach.dial(address, port) as stream:
            await stream.send(diagnosis.setup_frame(diagnosis.new_request_id(), model))
            line = await stream.reader.readline()
            if not line:
                refusal = await stream.refusal()
                if refusal:
                    raise Unreachable(refusal)
                seen = f"{at} closes its connections"
                return problem(seen, advice(seen, self.place.service_start))
            try:
                reply = diagnosis.parse_reply(line)
            except diagnosis.ProtocolError as error:
                return problem(f"{at}: {error}", "is it Edge-LLM's unit manager that listens there?")
            if reply.error is not None:
                code, words = reply.error.code, reply.error.message
                seen = f"{at}: setup of {model}: edge-llm error (code {code}): {words}"
                if code == diagnosis.FORMAT_ERROR:
                    return problem(seen, diagnosis.FRAMING_ADVICE)
                return problem(seen, advice(seen, "look at the llm node's log and model folder"))
            await stream.send(diagnosis.exit_frame(diagnosis.new_request_id(), reply.work_id))
            await asyncio.sleep(0.2)  # the unit answers the exit into a connection that is still there
        return ok(f"{at} set {model} up as {reply.work_id}")

    # The service ----------------------------------------------------------------------------------------

    async def service(self) -> Outcome:
        """Whether the service's process answers."""
        site = self.place.service()
        begin = time.monotonic()
        try:
            answer = await site.get("/health")
        except (Unreachable, NoAnswer) as error:
            return problem(
                f"the service at {site.url} cannot be reached: {error}",
                f"{self.place.service_start}; its log: {self.place.service_log}",
            )
        if answer.status != 200:
            return problem(f"{answer.reason}", advice(answer.text, self.place.service_start))
        return ok(f"{site.url} answers in {1000 * (time.monotonic() - begin):.0f} ms")

    async def health(self) -> Outcome:
        """What the node says of itself."""
        try:
            answer = await self.place.service().get(f"{_BASE}/health")
        except (Unreachable, NoAnswer) as error:
            return problem(f"no answer: {error}", f"its log: {self.place.service_log}")
        if answer.status != 200:
            return problem(answer.reason, advice(answer.reason, f"look at its log: {self.place.service_log}"))
        return ok("healthy")

    async def inference(self) -> Outcome:
        """A real recording through the speech model of the node."""
        return await transcribe(self.place.service(), self.key)

    @property
    def key(self) -> str | None:
        """An API key that the node takes; None where it asks for none."""
        keys = self._settings.server.api_keys if self._settings is not None else []
        return self._given_key or (keys[0].get_secret_value() if keys else None)


async def transcribe(site: Site, key: str | None) -> Outcome:
    """Send the bundled recording to an API, and say what it heard and how long it took."""
    headers = {"Content-Type": "audio/flac", **({"X-API-Key": key} if key else {})}
    begin = time.monotonic()
    try:
        answer = await site.post(f"{_BASE}/asr", spoken(), headers, INFERENCE_SECONDS)
    except (Unreachable, NoAnswer) as error:
        return problem(f"no answer to a recording: {error}", "look at the log of the service")
    seconds = time.monotonic() - begin
    if answer.status == 501:
        return ok("the node does not offer speech recognition")
    if answer.status != 200:
        return problem(answer.reason, advice(answer.reason, "look at the log of the service"))
    data = answer.json().get("data") or {}
    text = str(data.get("text", "")).strip()
    if not text:
        return warning(
            f"no word in a recording of speech ({RECORDING.name}), after {seconds:.2f} s",
            "the speech model does not work on this audio: check ai.models.asr and the model's language",
        )
    if seconds > 2 * SPOKEN_SECONDS:
        return warning(
            f"{seconds:.1f} s for {SPOKEN_SECONDS} s of speech: more than twice as long as it was spoken",
            "check that the model runs on the GPU (nvidia-smi shows its process), or lower the node's load; "
            "Edge-LLM: ai.request.audio_stream_chunk_delay_ms 0 with an updated unit manager",
        )
    return ok(f"{seconds:.2f} s for {SPOKEN_SECONDS} s of speech: “{_short(text)}”")


@functools.cache
def spoken() -> bytes:
    """The beginning of the bundled recording, as a FLAC file."""
    with soundfile.SoundFile(RECORDING) as recording:
        samples = recording.read(SPOKEN_SECONDS * recording.samplerate, dtype="int16")
        file = io.BytesIO()
        soundfile.write(file, samples, recording.samplerate, format="FLAC")
    return file.getvalue()


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57].rsplit(" ", 1)[0] + " …"


def _states(index: Any) -> dict[str, tuple[str, str]]:
    """Model -> (state, reason), as the service reads it: any version that is READY counts."""
    if not isinstance(index, list):
        raise NoAnswer(f"no model index: {str(index)[:200]}")
    states: dict[str, tuple[str, str]] = {}
    for model in index:
        if states.get(model["name"], ("", ""))[0] != "READY":
            states[model["name"]] = (model.get("state", ""), _first_line(model.get("reason", "")))
    return states


def _first_line(reason: str) -> str:
    """Triton's reason without the python backend's traceback."""
    return reason.split("\n\nAt:", 1)[0].strip().replace("\n", " ")


def _message(content: Any, message: Any) -> Any:
    try:
        return json_format.ParseDict(content, message, ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise NoAnswer(f"not as Triton describes a model: {error}") from None


def _same_address(one: str, other: str) -> bool:
    def normal(address: str) -> str:
        host, _, port = address.rpartition(":")
        return f"{'127.0.0.1' if host in _LOOPBACK else host}:{port}"

    return normal(one) == normal(other)
