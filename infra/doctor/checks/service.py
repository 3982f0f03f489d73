"""The inference service of a node: its settings, its health, and a recording of speech sent to it."""

import functools
import io
import textwrap
import time

import soundfile

from inference_service.model_cards import GET_A_NEURAL_MODEL, RULES
from inference_service.settings import SettingsError
from infra import names
from infra.doctor.answers import expected, failing
from infra.doctor.findings import Outcome, ok, problem, warning
from infra.doctor.sites.node import NodeSite
from infra.doctor.web import HttpServer
from infra.paths import RECORDING

#: Seconds of the recording that are sent: enough for a sentence, and short for a node that is fed slowly.
SPOKEN_SECONDS = 3
INFERENCE_SECONDS = 25.0
BASE = "/api/v1/ai"


async def settings(node: NodeSite) -> Outcome:
    """Whether the service can start with its settings, and with the runtime that the stack declares."""
    try:
        with failing(node.start(names.SERVICE)):
            node.settings = (await node.in_use()).settings()
    except SettingsError as error:
        return problem(
            "\n".join(error.problems),
            "correct service.config and service.env in the stack file, then `pulumi up`",
        )
    declared = node.node.runtime
    if node.settings.backend != declared:
        return problem(
            f"the service uses the runtime {node.settings.backend}, but the stack declares {declared}",
            "remove ai.runtime.backend and AI__RUNTIME__BACKEND from service.config and service.env; "
            "then `pulumi up`",
        )
    tasks = ", ".join(sorted(task.model for task in node.settings.ai.models.tasks))
    return ok(f"runtime {declared}; tasks {tasks}")


async def answers(node: NodeSite) -> Outcome:
    """Whether the service answers at all."""
    server = node.server(names.SERVICE)
    begin = time.monotonic()
    await expected(
        server.get("/health"),
        f"{node.start(names.SERVICE)}; its log: {node.log(names.SERVICE)}",
        unreachable=f"the service at {server.url} cannot be reached: {{error}}",
    )
    return ok(f"{server.url} answers in {1000 * (time.monotonic() - begin):.0f} ms")


async def health(node: NodeSite) -> Outcome:
    """The node's own health report."""
    await expected(
        node.server(names.SERVICE).get(f"{BASE}/health"),
        f"look at its log: {node.log(names.SERVICE)}",
        unreachable="no answer: {error}",
    )
    return ok("healthy")


async def model_kinds(node: NodeSite) -> Outcome:
    """What the node's models are: a fleet that serves rules where neural models are expected is a warning."""
    answer = await expected(
        node.server(names.SERVICE).request("GET", f"{BASE}/info", b"", _with_key(node.key)),
        f"look at its log: {node.log(names.SERVICE)}",
        unreachable="no answer: {error}",
    )
    cards = (answer.json().get("data") or {}).get("model_cards") or {}
    kinds = ", ".join(f"{role}: {card['kind']}" for role, card in cards.items())
    rules = [f"{card['name']} is a {card['kind']}" for card in cards.values() if card["kind"] in RULES]
    allowed = node.stack.models.allow_rules
    if not rules:
        return ok(kinds or "the service says nothing of its models")
    if allowed is not None:
        return ok(f"{', '.join(rules)}, {'which' if allowed else 'not offered, as'} models.allowRules says")
    caveats = [f"{card['name']}: {card['caveat']}" for card in cards.values() if card.get("caveat")]
    return warning(
        "\n".join([f"{', '.join(rules)}, where neural models may be expected", *caveats]),
        f"{GET_A_NEURAL_MODEL}. models.allowRules: false turns their tasks off, true accepts them",
    )


def _with_key(key: str | None) -> dict[str, str]:
    return {"X-API-Key": key} if key else {}


async def inference(node: NodeSite) -> Outcome:
    """A recording of speech, transcribed by the node."""
    return await transcribe(node.server(names.SERVICE), node.key)


async def transcribe(server: HttpServer, key: str | None) -> Outcome:
    """Send the bundled recording to an API; shows the text and how long it took.

    A slow answer is measured once more: the first one may have waited for another client's request, or for
    the gateway to give up a node that is away.
    """
    text, seconds = await _timed_transcript(server, key)
    if text is not None and seconds > 2 * SPOKEN_SECONDS:
        text, seconds = await _timed_transcript(server, key)
    if text is None:
        return ok("the node does not offer speech recognition")
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
    shown = textwrap.shorten(text, 60, placeholder=" …")
    return ok(f"{seconds:.2f} s for {SPOKEN_SECONDS} s of speech: “{shown}”")


async def _timed_transcript(server: HttpServer, key: str | None) -> tuple[str | None, float]:
    """The transcript of the bundled recording, None where the node has no speech task, and the seconds it
    took."""
    headers = {"Content-Type": "audio/flac", **_with_key(key)}
    begin = time.monotonic()
    answer = await expected(
        server.request("POST", f"{BASE}/asr", spoken(), headers, INFERENCE_SECONDS),
        "look at the log of the service",
        unreachable="no answer to a recording: {error}",
        statuses=(200, 501),
    )
    seconds = time.monotonic() - begin
    if answer.status == 501:
        return None, seconds
    return str((answer.json().get("data") or {}).get("text", "")).strip(), seconds


@functools.cache
def spoken() -> bytes:
    """The beginning of the bundled recording, as a FLAC file."""
    with soundfile.SoundFile(RECORDING) as recording:
        samples = recording.read(SPOKEN_SECONDS * recording.samplerate, dtype="int16")
        file = io.BytesIO()
        soundfile.write(file, samples, recording.samplerate, format="FLAC")
    return file.getvalue()
