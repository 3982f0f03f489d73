"""What models say of themselves, and a node that allows no rules, at every entrance."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx2
import numpy as np
import pytest
from openai import OpenAI

from inference_service import model_cards
from inference_service.audio import Audio
from inference_service.engine import Engine
from inference_service.errors import NotReady, Unsupported
from inference_service.model_cards import Measurement, ModelDescription, ModelRole
from inference_service.runtimes.base import Call
from inference_service.runtimes.remote import RemoteRuntime
from inference_service.settings import Settings
from inference_service.streaming import Chunk, Streaming
from inference_service.tasks import ModelKind, Task
from tests.service.conftest import DoubleRuntime, Service
from tests.service.streams import results_of, tone

BASE = "/api/v1/ai"
SECOND = Audio(np.zeros(16000, dtype=np.int16), 16000)
CALL = Call(request_id="test")

WHISPER = ModelDescription(name="asr", version="0123456789abcdef", kind=ModelKind.NEURAL, languages=["en"])
RULE = ModelDescription(name="emotion", kind=ModelKind.RULE, caveat="it hears arousal")
LEXICON = ModelDescription(name="emotion-text", kind=ModelKind.LEXICON, caveat="it misses irony")
DETECTOR = ModelDescription(
    name="synthesis",
    kind=ModelKind.RULE,
    caveat="neural voices pass for human",
    quality=[Measurement("balanced accuracy", 0.867, "voices held out")],
)
CARDS = {
    ModelRole.ASR: WHISPER,
    ModelRole.EMOTION: RULE,
    ModelRole.EMOTION_TEXT: LEXICON,
    ModelRole.SYNTHESIS: DETECTOR,
}

Serve = Callable[..., Service]


def described(service: Service) -> str:
    """Makes the service's models those of `CARDS`; returns the API's address."""
    service.runtime.cards = dict(CARDS)
    return f"{service.url}{BASE}"


def data_of(response: httpx2.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    return response.json()["data"]


def post_pcm(url: str, **fields: Any) -> httpx2.Response:
    headers = {"Content-Type": "application/octet-stream"}
    return httpx2.post(url, content=tone(1.0), headers=headers, timeout=20, **fields)


# The card ------------------------------------------------------------------------------------------------


@pytest.mark.fast
def test_a_card_in_the_parameters_of_a_model_is_its_description() -> None:
    card = {
        "kind": "rule",
        "method": "a threshold",
        "languages": ["en", "es"],
        "licence": "MIT",
        "quality": [{"metric": "accuracy", "value": 0.7, "test_set": "60 sentences"}],
        "caveat": "short words",
    }
    parameters = {"model_card": json.dumps(card), "content_hash": "0123456789abcdef", "threads": "0"}
    assert model_cards.describe("mine", parameters) == ModelDescription(
        name="mine",
        version="0123456789abcdef",
        kind=ModelKind.RULE,
        method="a threshold",
        languages=["en", "es"],
        licence="MIT",
        quality=[Measurement("accuracy", 0.7, "60 sentences")],
        caveat="short words",
    )


@pytest.mark.fast
def test_what_a_model_does_not_say_is_unknown() -> None:
    assert model_cards.describe("mine", {}) == ModelDescription(name="mine", kind=ModelKind.UNKNOWN)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("card", "reason"),
    [
        ("{", "truncated"),
        ('{"kind": "clever"}', "Invalid enum value 'clever'"),
        ('{"license": "MIT"}', "unknown field `license`"),
        ('{"quality": [{"metric": "accuracy", "value": 0.7}]}', "missing required field `test_set`"),
    ],
)
def test_a_malformed_card_is_an_error_and_invents_no_kind(card: str, reason: str) -> None:
    description = model_cards.describe("mine", {"model_card": card})
    assert description.kind is ModelKind.UNKNOWN
    assert description.error is not None
    assert description.error.startswith("parameter model_card: ")
    assert reason in description.error


# Answers -------------------------------------------------------------------------------------------------


def test_info_says_of_each_model_what_it_is(service: Service) -> None:
    info = data_of(httpx2.get(f"{described(service)}/info"))
    assert info["models"] == {"asr": "asr", "emotion": "emotion", "synthesis": "synthesis"}
    cards = info["model_cards"]
    assert set(cards) == {"asr", "emotion", "emotion_text", "synthesis"}
    assert {role: card["kind"] for role, card in cards.items()} == {
        "asr": "neural",
        "emotion": "rule",
        "emotion_text": "lexicon",
        "synthesis": "rule",
    }
    assert (cards["asr"]["version"], cards["asr"]["languages"]) == ("0123456789abcdef", ["en"])
    assert cards["synthesis"]["quality"] == [
        {"metric": "balanced accuracy", "value": 0.867, "test_set": "voices held out"}
    ]


def test_info_says_that_nothing_is_known_and_why(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(role: ModelRole) -> ModelDescription:
        raise NotReady("Triton is away")

    monkeypatch.setattr(service.runtime, "describe", away)
    info = data_of(httpx2.get(f"{service.url}{BASE}/info"))
    assert info["model_cards"]["emotion"] == {
        "name": "emotion",
        "version": None,
        "kind": "unknown",
        "method": None,
        "languages": None,
        "licence": None,
        "quality": [],
        "caveat": None,
        "error": "Triton is away",
    }


def test_http_answers_carry_the_kind_and_the_caveat_of_their_model(service: Service) -> None:
    url = described(service)
    heard = data_of(post_pcm(f"{url}/asr"))
    assert heard["kind"] == "neural"
    assert "caveat" not in heard
    voice = data_of(post_pcm(f"{url}/emotion"))
    assert (voice["kind"], voice["caveat"]) == ("rule", "it hears arousal")
    text = data_of(httpx2.post(f"{url}/emotion", json={"text": "oh great"}))
    assert (text["kind"], text["caveat"]) == ("lexicon", "it misses irony")
    verdict = data_of(post_pcm(f"{url}/synthesis"))
    assert (verdict["kind"], verdict["caveat"]) == ("rule", "neural voices pass for human")
    analysed = {"task_type": "emotion", "input_data": "b2ggZ3JlYXQ="}
    assert data_of(httpx2.post(f"{url}/analyze", json=analysed))["result"]["kind"] == "lexicon"
    batch = {"tasks": [{"task_id": 1, "type": "emotion", "data": {"text": "oh great"}}]}
    assert data_of(httpx2.post(f"{url}/batch", json=batch))["results"][0]["result"]["kind"] == "lexicon"


def test_answers_of_a_model_that_says_nothing_carry_neither(service: Service) -> None:
    service.runtime.cards = {ModelRole.EMOTION: ModelDescription(name="emotion")}
    for task in ("emotion", "synthesis"):
        assert not {"kind", "caveat"} & data_of(post_pcm(f"{service.url}{BASE}/{task}")).keys()


async def test_results_of_streams_carry_them_too(settings: Callable[..., Settings]) -> None:
    runtime = DoubleRuntime()
    runtime.cards = dict(CARDS)
    streams = Streaming(Engine(settings(), runtime))
    chunk = Chunk(tone(1.0), format="pcm", sample_rate=16000, tasks=("asr", "emotion"), is_final=True)
    speech, emotion = await results_of(streams, [chunk])
    assert (speech.data.kind, speech.data.caveat) == (ModelKind.NEURAL, None)
    assert (emotion.data.kind, emotion.data.caveat) == (ModelKind.RULE, "it hears arousal")


def test_openai_s_model_list_says_what_the_recogniser_is(service: Service) -> None:
    described(service)
    with OpenAI(base_url=f"{service.url}/v1", api_key="none") as client:
        models = client.models.list().data
        assert {(each.object, each.owned_by) for each in models} == {("model", "gpu-inference-fleet")}
        extra = client.models.retrieve("asr").model_extra
    assert extra == {"kind": "neural", "version": "0123456789abcdef", "languages": ["en"]}


# A node that forwards ------------------------------------------------------------------------------------


async def test_a_remote_node_passes_on_what_the_other_node_says(service: Service) -> None:
    described(service)
    settings = Settings.model_validate({"ai": {"http": {"endpoint": service.url}}})
    runtime = RemoteRuntime(settings)
    engine = Engine(settings, runtime)
    await engine.start()
    try:
        assert await engine.offer.describe() == CARDS
        verdict = await engine.run(Task.SYNTHESIS, audio=SECOND, call=CALL)
        assert (verdict.kind, verdict.caveat) == (ModelKind.RULE, "neural voices pass for human")
    finally:
        await engine.close()


async def test_a_remote_node_that_allows_no_rules_refuses_those_of_the_other_node(service: Service) -> None:
    described(service)
    ai = {"http": {"endpoint": service.url}, "models": {"allow_rules": False}}
    settings = Settings.model_validate({"ai": ai})
    engine = Engine(settings, RemoteRuntime(settings))
    await engine.start()
    try:
        with pytest.raises(Unsupported, match="the model synthesis is a rule"):
            await engine.run(Task.SYNTHESIS, audio=SECOND, call=CALL)
        heard = await engine.run(Task.ASR, audio=SECOND, call=CALL)
        assert heard.kind is ModelKind.NEURAL
    finally:
        await engine.close()


# No rules ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_to", "reason"),
    [
        (lambda url: post_pcm(f"{url}/emotion"), "emotion_detection: the model emotion is a rule"),
        (
            lambda url: httpx2.post(f"{url}/emotion", json={"text": "oh great"}),
            "emotion_detection in text: the model emotion-text is a lexicon",
        ),
        (lambda url: post_pcm(f"{url}/synthesis"), "synthesis_detection: the model synthesis is a rule"),
    ],
    ids=["voice", "text", "synthesis"],
)
def test_without_rules_their_tasks_are_501_with_the_command_that_brings_a_model(
    serve: Serve, request_to: Callable[[str], httpx2.Response], reason: str
) -> None:
    url = described(serve(AI__MODELS__ALLOW_RULES="false"))
    response = request_to(url)
    assert response.status_code == 501
    assert reason in response.json()["message"]
    assert "python -m infra.models export" in response.json()["message"]


def test_without_rules_info_offers_the_rest_and_the_node_is_healthy(serve: Serve) -> None:
    url = described(serve(AI__MODELS__ALLOW_RULES="false"))
    info = data_of(httpx2.get(f"{url}/info"))
    assert info["capabilities"] == ["speech_recognition"]
    assert info["model_cards"]["emotion"]["kind"] == "rule"
    assert data_of(httpx2.get(f"{url}/health"))["status"] == "healthy"
    assert data_of(post_pcm(f"{url}/asr"))["kind"] == "neural"
    status = data_of(httpx2.post(f"{url}/setup"))["models"]["synthesis"]
    assert status["ready"] is False
    assert "python -m infra.models export" in status["error"]


def test_without_rules_a_neural_model_of_text_keeps_the_task(serve: Serve) -> None:
    service = serve(AI__MODELS__ALLOW_RULES="false")
    url = described(service)
    service.runtime.cards[ModelRole.EMOTION_TEXT] = ModelDescription(name="bert", kind=ModelKind.NEURAL)
    assert "emotion_detection" in data_of(httpx2.get(f"{url}/info"))["capabilities"]
    assert data_of(httpx2.post(f"{url}/emotion", json={"text": "oh great"}))["kind"] == "neural"
    assert post_pcm(f"{url}/emotion").status_code == 501


def test_without_rules_a_model_that_does_not_say_its_kind_still_serves(serve: Serve) -> None:
    service = serve(AI__MODELS__ALLOW_RULES="false")
    assert "kind" not in data_of(post_pcm(f"{service.url}{BASE}/emotion"))


async def test_without_rules_a_stream_that_asks_for_one_is_refused(
    settings: Callable[..., Settings],
) -> None:
    runtime = DoubleRuntime()
    runtime.cards = dict(CARDS)
    streams = Streaming(Engine(settings(AI__MODELS__ALLOW_RULES="false"), runtime))
    chunk = Chunk(tone(1.0), format="pcm", sample_rate=16000, tasks=("emotion",), is_final=True)
    with pytest.raises(Unsupported, match="the model emotion is a rule"):
        await results_of(streams, [chunk])
