"""The forms of OpenAI's audio API as the serialisers of its many clients write them, and translations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI

from inference_service.audio import Audio
from inference_service.errors import BadRequest
from inference_service.runtimes.base import Call
from inference_service.tasks import DetailedTranscript, Segment, TranscribeOptions, Transcript, Word
from tests.service.conftest import DoubleRuntime, Service, settings_in
from tests.service.test_openai_audio import recording

Fields = list[tuple[str, str]]


class Words(DoubleRuntime):
    """Answers every recording with two words, with their times if requested, or refuses to translate."""

    can_translate = True

    async def transcribe(self, audio: Audio, options: TranscribeOptions, call: Call) -> DetailedTranscript:
        if options.translate and not self.can_translate:
            raise BadRequest("asr: options.task: the loaded Whisper model knows English only")
        self.options.append(options)
        words = [Word("good", 0.1, 0.4, 0.9), Word("morning", 0.4, 0.9, 0.9)]
        transcript = Transcript("good morning", 0.9, "fr" if options.translate else "en", audio.duration_ms)
        return DetailedTranscript(transcript, [Segment(0, 0.1, 0.9, "good morning", -0.2, 0.0, words)])


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Any:
    service = Service(settings_in(tmp_path_factory.mktemp("service")))
    service.runtime = service.engine.runtime = Words()
    service.start()
    yield service
    service.stop()


@pytest.fixture
def service(words: Service) -> Service:
    words.runtime.__init__()  # type: ignore[misc]
    words.runtime.can_translate = True  # type: ignore[attr-defined]
    return words


@pytest.fixture
def post(service: Service) -> Callable[..., httpx2.Response]:
    """`post(fields)`: sends a recording with these fields, in this order."""

    def send(fields: Fields, path: str = "/v1/audio/transcriptions") -> httpx2.Response:
        parts = [(name, (None, text)) for name, text in [("model", "asr"), *fields]]
        return httpx2.post(f"{service.url}{path}", files=[("file", recording(1)), *parts], timeout=20)

    return send


Post = Callable[..., httpx2.Response]


@pytest.mark.parametrize(
    "fields",
    [
        [("timestamp_granularities[]", "word"), ("timestamp_granularities[]", "segment")],
        [("timestamp_granularities", "word"), ("timestamp_granularities", "segment")],
        [("timestamp_granularities[0]", "word"), ("timestamp_granularities[1]", "segment")],
        [("timestamp_granularities.0", "word"), ("timestamp_granularities.1", "segment")],
        [("timestamp_granularities", '["word", "segment"]')],
        [("timestamp_granularities[]", '["word","segment"]')],
        [("timestamp_granularities", "word,segment")],
        [("timestamp_granularities[]", "word, segment")],
    ],
    ids=lambda fields: "&".join(f"{name}={text}" for name, text in fields),
)
def test_a_list_is_read_in_every_form_that_serialisers_give_it(post: Post, fields: Fields) -> None:
    found = post([*fields, ("response_format", "verbose_json")]).json()
    assert [word["word"] for word in found["words"]] == ["good", "morning"]
    assert len(found["segments"]) == 1


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ([("keywords[]", "Nez Perce"), ("keywords[]", "Idaho")], {"hotwords": "Nez Perce, Idaho"}),
        ([("keywords[1]", "Idaho"), ("keywords[0]", "Nez Perce")], {"hotwords": "Nez Perce, Idaho"}),
        ([("keywords", "Idaho"), ("hotwords", "Boise")], {"hotwords": "Idaho, Boise"}),
        ([("languages[]", "de"), ("languages[]", "French")], {"languages": ("de", "fr")}),
        ([("languages", "de,fr")], {"languages": ("de", "fr")}),
        ([("languages[]", "de")], {"language": "de"}),
        ([("languages[]", "de"), ("languages[]", "fr"), ("language", "fr")], {"language": "fr"}),
        ([("language", "Spanish")], {"language": "es"}),
        ([("language", "haitian creole")], {"language": "ht"}),
        ([("language", "pt-BR")], {"language": "pt"}),
        ([("temperature", "0.0")], {}),
        ([("temperature", " 1 ")], {"temperature": 1.0}),
        ([("condition_on_previous_text", "1")], {"carry_text": True}),
    ],
    ids=str,
)
def test_fields_become_options_of_recognition(
    service: Service, post: Post, fields: Fields, options: dict[str, Any]
) -> None:
    assert post(fields).status_code == 200
    assert service.runtime.options == [TranscribeOptions(**options)]


def test_fields_without_content_count_as_absent(service: Service, post: Post) -> None:
    names = ("language", "prompt", "response_format", "temperature", "stream", "timestamp_granularities[]",
             "languages[]", "keywords[]", "include[]", "chunking_strategy", "known_speaker_names[]",
             "diarize", "something")  # fmt: skip
    assert post([(name, "") for name in names]).json()["text"] == "good morning"
    assert service.runtime.options == [TranscribeOptions()]


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ([("known_speaker_references[]", "data:audio/wav;base64,AA==")], "known_speaker_references",
         "unsupported_parameter"),
        ([("task", "translate")], "task", "unsupported_parameter"),
        ([("vad_filter", "true")], "vad_filter", "unknown_parameter"),
        ([("temperature", "warm")], "temperature", "invalid_value"),
        ([("temperature", "nan")], "temperature", "invalid_value"),
        ([("stream", "perhaps")], "stream", "invalid_value"),
        ([("prompt[text]", "x")], "prompt", "invalid_value"),
        ([("languages[first]", "de")], "languages", "invalid_value"),
        ([("keywords", '["a", 1]')], "keywords", "invalid_value"),
        ([("keywords", "[a")], "keywords", "invalid_value"),
        ([("chunking_strategy", "{")], "chunking_strategy", "invalid_value"),
        ([("chunking_strategy[type]", "semantic")], "chunking_strategy", "invalid_value"),
    ],
    ids=str,
)  # fmt: skip
def test_what_would_change_the_answer_and_cannot_is_refused_by_name(
    post: Post, fields: Fields, param: str, code: str
) -> None:
    answer = post(fields)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, param, code)
    assert error["message"].startswith(f"{param}: ")


@pytest.mark.parametrize(
    "fields",
    [
        [("chunking_strategy", "auto")],
        [("chunking_strategy", '{"type": "server_vad"}')],
        [("chunking_strategy[type]", "server_vad")],
        [("diarize", "false"), ("translate", "0")],
        [("user", "user-1")],
        [("known_speaker_names", "[]")],
    ],
    ids=str,
)
def test_what_changes_nothing_is_accepted(post: Post, fields: Fields) -> None:
    assert post(fields).status_code == 200


# Translations -----------------------------------------------------------------------------------------------


@pytest.fixture
def client(service: Service) -> Any:
    with OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0, timeout=20) as client:
        yield client


def test_a_translation_is_english_whatever_is_spoken(client: OpenAI, service: Service) -> None:
    found = client.audio.translations.create(file=recording(1), model="whisper-1", prompt="Boise")

    assert found.text == "good morning"
    assert service.runtime.options == [TranscribeOptions(prompt="Boise", translate=True)]
    verbose: Any = client.audio.translations.create(
        file=recording(1), model="whisper-1", response_format="verbose_json"
    )
    assert (verbose.task, verbose.language, verbose.duration) == ("translate", "english", 1.0)
    assert verbose.segments[0].text == "good morning"
    srt = client.audio.translations.create(file=recording(1), model="whisper-1", response_format="srt")
    assert "good morning" in str(srt)


def test_a_model_that_cannot_translate_says_so(client: OpenAI, service: Service) -> None:
    service.runtime.can_translate = False  # type: ignore[attr-defined]
    with pytest.raises(openai.BadRequestError, match="knows English only") as refused:
        client.audio.translations.create(file=recording(1), model="whisper-1")
    assert refused.value.param == "model"


def test_a_translation_has_no_field_for_the_language(post: Post) -> None:
    answer = post([("language", "de")], "/v1/audio/translations")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "language")
