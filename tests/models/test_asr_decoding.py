"""The parts of the speech model that need no weights, run on a double of the engine.

The double stands for Whisper in CTranslate2 (`engine.py`): it "hears" the samples themselves, each sample of
a window being the number of a token, and stops, as CTranslate2 does, after 224 tokens. It is exact where
Whisper is a guess, so that a token that gets lost is the fault of the code around it.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.triton_server import MODEL_REPOSITORY

RATE = 16000
ROOM = 224
MODULES = (
    "languages",
    "options",
    "windows",
    "limits",
    "loops",
    "passes",
    "recogniser",
    "transcription",
    "device",
    "lanes",
    "cpu_priority",
)

# Article 1 of the Universal Declaration of Human Rights.
UDHR = {
    "ka": "ყველა ადამიანი იბადება თავისუფალი და თანასწორი თავისი ღირსებითა და უფლებებით. მათ მინიჭებული "
    "აქვთ გონება და სინდისი და ერთმანეთის მიმართ უნდა იქცეოდნენ ძმობის სულისკვეთებით.",
    "hi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है। उन्हें बुद्धि और "
    "अन्तरात्मा की देन प्राप्त है और परस्पर उन्हें भाईचारे के भाव से बर्ताव करना चाहिए।",
    "zh": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
    "my": "လူတိုင်းသည် တူညီ လွတ်လပ်သော ဂုဏ်သိက္ခာဖြင့် လည်းကောင်း၊ တူညီလွတ်လပ်သော အခွင့်အရေးများဖြင့် လည်းကောင်း၊ မွေးဖွားလာသူများ ဖြစ်သည်။",
}


@pytest.fixture
def asr(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The model's modules, which Triton imports from the model's own folder."""
    monkeypatch.syspath_prepend(str(MODEL_REPOSITORY / "asr" / "1"))
    others = {name: sys.modules.pop(name) for name in MODULES if name in sys.modules}
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})
    for name in MODULES:
        sys.modules.pop(name, None)
    sys.modules.update(others)


class EngineDouble:
    """See the module. A token is a byte of UTF-8; `answers` overrides what is heard, by temperature."""

    def __init__(
        self, asr: SimpleNamespace, answers: dict[float, str] | None = None, logprob: float = -0.2
    ) -> None:
        self._asr = asr
        self._logprob = logprob
        self._answers = answers or {}
        self.batches: list[tuple[float, int]] = []
        self.encoded = 0
        self.contexts: list[float] = []

    def encode(self, windows: Sequence[np.ndarray], seconds: float = 30.0) -> list[np.ndarray]:
        self.encoded += len(windows)
        self.contexts.append(seconds)
        return list(windows)

    def gather(self, encoded: Sequence[tuple[list[np.ndarray], int]]) -> list[np.ndarray]:
        return [batch[number] for batch, number in encoded]

    def detect_languages(self, encoded: list[np.ndarray]) -> list[dict[str, float]]:
        """Georgian; uncertain, and rather Armenian, in less than 10 s."""
        return [
            {"ka": 0.9, "hy": 0.1} if window.size >= 10 * RATE else {"ka": 0.4, "hy": 0.5}
            for window in encoded
        ]

    def prompt(self, options: Any, language: str) -> list[int]:
        return [0] * 4 + [1] * len(options.prompt or "")

    def generate(
        self,
        encoded: list[np.ndarray],
        prompts: Sequence[list[int]],
        temperature: float,
        most_tokens: int,
    ) -> list[Any]:
        assert len({len(prompt) for prompt in prompts}) == 1
        self.batches.append((temperature, len(encoded)))
        hypotheses = []
        for window in encoded:
            tokens = [int(sample) for sample in window if sample]
            if temperature in self._answers:
                tokens = list(self._answers[temperature].encode())
            room = min(ROOM, most_tokens)
            found = tokens[:room]
            sampled = len(found) * (1 if temperature == 0 else 5)
            hypotheses.append(
                self._asr.passes.Hypothesis(found, self._logprob, 0.0, len(tokens) >= room, sampled)
            )
        return hypotheses

    def text(self, tokens: Sequence[int]) -> str:
        return bytes(tokens).decode(errors="replace")

    def word_starts(
        self, encoded: list[np.ndarray], tokens: list[int], seconds: float, language: str
    ) -> list[tuple[int, float]]:
        moments = np.flatnonzero(encoded[0])[: len(tokens)] / RATE
        starts = [0] + [index + 1 for index, token in enumerate(tokens[:-1]) if token == ord(" ")]
        return [(index, float(moments[index])) for index in starts]

    def words(self, encoded: Any, tokens: Any, seconds: Any, language: str) -> list[list[dict]]:
        return [[{"word": self.text(each), "start": 0.0, "end": 1.0, "probability": 1.0}] for each in tokens]


def spoken(text: str, tokens_per_second: float) -> np.ndarray:
    """Samples that the double hears as `text`."""
    tokens = list(text.encode())
    audio = np.zeros(int(len(tokens) / tokens_per_second * RATE) + 1, np.float32)
    audio[(np.arange(len(tokens)) * RATE / tokens_per_second).astype(int)] = tokens
    return audio


def decode(asr: SimpleNamespace, engine: EngineDouble, *windows: np.ndarray, **options: Any) -> list[Any]:
    request = asr.passes.Request("en")
    speeches = [asr.passes.Speech(w, asr.options.Options(**options), request) for w in windows]
    asr.recogniser.recognise(engine, speeches)
    return speeches


@pytest.mark.parametrize("rate", [16, 33])
@pytest.mark.parametrize("language", UDHR)
def test_nothing_is_lost_of_speech_of_many_tokens_a_second(asr, language, rate):
    """16 a second is Hindi at reading pace, 33 Georgian and Burmese."""
    text = UDHR[language].replace("，", "， ")
    text = " ".join([text, text[::-1]])[: 27 * rate // 3]
    (speech,) = decode(asr, EngineDouble(asr), spoken(text, rate))
    assert " ".join(part.text for part in speech.parts).split() == text.split()
    assert len(speech.parts) > 1
    assert [part.start for part in speech.parts] == sorted(part.start for part in speech.parts)


@pytest.mark.parametrize("language", UDHR)
def test_ordinary_text_of_any_script_is_no_loop(asr, language):
    tokens = list(UDHR[language].encode())
    assert asr.loops.repetition(tokens) is None
    assert asr.loops.compression_ratio(UDHR[language]) < 2
    assert not asr.loops.loops(tokens, UDHR[language], at_limit=True)


@pytest.mark.parametrize(
    "text", ["and so on " * 20, "მადლობა. " * 30, "谢谢大家。" * 12, "I'm going. " + "no " * 60]
)
def test_a_decoder_that_repeats_itself_is_recognised(asr, text):
    tokens = list(text.encode())
    assert asr.loops.loops(tokens, text, at_limit=False)
    assert len(asr.loops.without_loop(tokens)) < len(tokens) / 3


def test_a_sentence_said_three_times_is_no_loop(asr):
    text = "Ask not what your country can do for you; ask what you can do for your country. " * 3
    assert not asr.loops.loops(list(text.encode()), text, at_limit=False)


def test_a_loop_is_decoded_again_at_rising_temperatures_and_alone(asr):
    engine = EngineDouble(asr, {0.0: "no " * 60, 0.2: "no " * 60, 0.4: "Not at all."})
    (speech,) = decode(asr, engine, spoken("whatever", 10))
    assert [part.text for part in speech.parts] == ["Not at all."]
    assert [temperature for temperature, _ in engine.batches] == [0.0, 0.2, 0.4]


def test_retries_encode_nothing_again(asr):
    engine = EngineDouble(asr, {0.0: "no " * 60, 0.2: "Not at all."})
    decode(asr, engine, spoken("whatever", 10), spoken("another", 10))
    assert engine.encoded == 2


def test_retries_end_once_they_have_sampled_too_many_tokens(asr):
    """Speech in another language than the one asked for: long texts, improbable at every temperature."""
    engine = EngineDouble(asr, logprob=-2.0)
    (speech,) = decode(asr, engine, spoken(UDHR["ka"], 33))
    retries = sum(temperature > 0 for temperature, _ in engine.batches)
    assert 1 <= retries <= -(-asr.limits.MAX_RETRY_TOKENS // (5 * ROOM))
    assert " ".join(part.text for part in speech.parts).split() == UDHR["ka"].split()


def test_short_improbable_text_is_tried_at_every_temperature(asr):
    engine = EngineDouble(asr, logprob=-2.0)
    decode(asr, engine, spoken("mumble", 10))
    assert [temperature for temperature, _ in engine.batches] == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]


def test_a_loop_in_a_short_window_ends_early(asr):
    """One second of audio has room for 80 tokens, not for 224."""
    engine = EngineDouble(asr, dict.fromkeys((0.0, 0.2, 0.4, 0.6, 0.8, 1.0), "abcdefgh " * 60))
    (speech,) = decode(asr, engine, np.ones(RATE, np.float32))
    assert sum(len(part.tokens) for part in speech.parts) <= 80


def test_a_loop_at_every_temperature_is_cut_to_one_round(asr):
    engine = EngineDouble(asr, dict.fromkeys((0.0, 0.2, 0.4, 0.6, 0.8, 1.0), "Well. " + "no " * 60))
    (speech,) = decode(asr, engine, spoken("whatever", 10))
    assert [part.text for part in speech.parts] == ["Well. no"]


def test_windows_of_a_batch_are_decoded_in_one_call(asr):
    engine = EngineDouble(asr)
    decode(asr, engine, *(spoken(f"window {n}", 10) for n in range(8)))
    assert engine.batches == [(0.0, 8)]


def test_windows_of_a_client_that_left_are_not_decoded(asr):
    engine = EngineDouble(asr)
    left = asr.passes.Request("en", lambda: False)
    asr.recogniser.recognise(engine, [asr.passes.Speech(spoken("gone", 10), asr.options.Options(), left)])
    assert engine.batches == []


def test_a_client_that_leaves_while_its_window_is_encoded_stops_it_there(asr):
    engine = EngineDouble(asr)
    request = asr.passes.Request("en", lambda: engine.encoded == 0)
    speech = asr.passes.Speech(spoken("gone", 10), asr.options.Options(), request)
    asr.recogniser.recognise(engine, [speech])
    assert (engine.encoded, engine.batches) == (1, [])


@pytest.mark.parametrize("text", ["text", "a text of a hundred and more letters, " * 4])
def test_the_language_of_a_request_is_that_of_its_first_window(asr, text):
    """A short window in which it is uncertain is repeated for the detector."""
    request = asr.passes.Request(None)
    engine = EngineDouble(asr)
    speech = asr.passes.Speech(spoken(text, 10), asr.options.Options(), request)
    asr.recogniser.recognise(engine, [speech])
    assert request.language == "ka"
    assert [part.text for part in speech.parts] == [text.strip()]
    assert engine.encoded == (2 if text == "text" else 1)


@pytest.mark.parametrize(
    ("logprob", "options", "contexts"),
    [(-0.1, {}, [30.0]),
     (-0.1, {"priority": 2}, [30.0]),
     (-0.1, {"priority": 1}, [14.0]),
     (-0.7, {"priority": 1}, [14.0, 30.0]),
     (-0.7, {"draft": True}, [14.0])],
)  # fmt: skip
def test_live_speech_is_heard_in_a_short_context_and_a_final_text_again_where_it_is_unsure(
    asr, logprob, options, contexts
):
    text = "All human beings are born free and equal in dignity and rights"
    engine = EngineDouble(asr, logprob=logprob)
    (heard,) = decode(asr, engine, spoken(text, len(text) / 12), **options)
    assert [part.text for part in heard.parts] == [text]
    assert engine.contexts == pytest.approx(contexts, abs=0.01)


def test_an_unsure_final_text_is_not_heard_again_in_a_hurry(asr):
    engine = EngineDouble(asr, logprob=-0.7)
    options = asr.options.Options(priority=1)
    speech = asr.passes.Speech(spoken("text", 1), options, asr.passes.Request("en"))
    asr.recogniser.recognise(engine, [speech], hurried=lambda _: True)
    assert (speech.parts[0].text, engine.contexts) == ("text", [10.0])


def test_windows_are_packed_with_speech(asr):
    """5 s of speech, 15 s of silence, nine times: with their surroundings they are three windows."""
    speech = [(n * 20 * RATE, n * 20 * RATE + 5 * RATE) for n in range(9)]
    windows = asr.windows.pack(speech, 180 * RATE)
    assert len(windows) == 3
    for window in windows:
        assert sum(piece.size for piece in window.pieces) <= 30 * RATE
    covered = [piece for window in windows for piece in window.pieces]
    for start, end in speech:
        assert any(piece.start <= start and end <= piece.end for piece in covered)
    assert all(one.end <= two.start for one, two in itertools.pairwise(covered))


def test_moments_of_a_window_lead_back_to_the_audio(asr):
    pieces = (asr.windows.Piece(10 * RATE, 12 * RATE), asr.windows.Piece(50 * RATE, 60 * RATE))
    window = asr.windows.Window(pieces, pieces)
    assert [window.time_in_audio(t) for t in (0, 1.5, 3, 12, 99)] == [10, 11.5, 51, 60, 60]


def test_a_window_of_thirty_seconds_stays_one(asr):
    (window,) = asr.windows.pack([(0, 13 * RATE), (14 * RATE, 30 * RATE)], 30 * RATE)
    assert window.pieces == (asr.windows.Piece(0, 30 * RATE),)


def test_speech_without_pauses_is_cut(asr):
    windows = asr.windows.pack([(0, 100 * RATE)], 100 * RATE)
    assert [sum(piece.size for piece in window.pieces) for window in windows] == [
        28 * RATE, 28 * RATE, 28 * RATE, 16 * RATE,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "code"),
    [("en", "en"), ("pt-BR", "pt"), ("zh_TW", "zh"), ("Spanish", "es"), ("mandarin", "zh"),
     ("Haitian Creole", "ht"), ("Georgian", "ka"), ("", None), ("auto", None), (None, None)],
)  # fmt: skip
def test_languages_have_codes_and_names(asr, asked, code):
    known = set(asr.languages.CODES.values())
    assert len(known) == 100
    assert asr.languages.language_code(asked, known) == code


def test_english_only_weights_cannot_translate(asr):
    with pytest.raises(ValueError, match=r"options\.task: .* English only"):
        asr.options.read_options(None, json.dumps({"task": "translate"}), ["en"])


class HardwareDouble:
    """Stands for CTranslate2's view of the GPUs: their number and what they compute in."""

    def __init__(self, *gpus: set[str]) -> None:
        self._gpus = gpus

    def get_cuda_device_count(self) -> int:
        return len(self._gpus)

    def get_supported_compute_types(self, device: str, device_index: int = 0) -> set[str]:
        return self._gpus[device_index] if device == "cuda" else {"int8", "int8_float32", "float32"}


AMPERE = {"float32", "int8", "int8_float32", "int8_float16", "float16", "bfloat16"}
PASCAL = {"float32", "int8", "int8_float32"}


@pytest.mark.parametrize("kind", ["GPU", "KIND_GPU"])
def test_an_instance_uses_the_gpu_that_triton_gives_it(asr, kind):
    instance = {"model_instance_kind": kind, "model_instance_device_id": "2"}
    device = asr.device.choose_device(instance, {}, 3, HardwareDouble(AMPERE, PASCAL, AMPERE))
    assert (device.name, device.indices, device.compute_type) == ("cuda", (2,), "float16")
    assert (device.batch, device.lanes, device.workers) == (16, 1, 2)


def test_an_old_gpu_computes_in_a_type_that_it_has(asr):
    instance = {"model_instance_kind": "GPU", "model_instance_device_id": "0"}
    assert asr.device.choose_device(instance, {}, 1, HardwareDouble(PASCAL)).compute_type == "int8_float32"
    with pytest.raises(ValueError, match="compute_type is 'float16', which the GPU 0 does not support"):
        asr.device.choose_device(instance, {"compute_type": "float16"}, 1, HardwareDouble(PASCAL))


def test_a_triton_without_gpus_leaves_all_of_them_to_ctranslate2(asr):
    instance = {"model_instance_kind": "CPU", "model_instance_device_id": "0"}
    device = asr.device.choose_device(instance, {}, 1, HardwareDouble(AMPERE, AMPERE))
    assert (device.name, device.indices, device.lanes, device.workers) == ("cuda", (0, 1), 2, 2)
    assert asr.device.choose_device(instance, {"device": "cpu"}, 1, HardwareDouble(AMPERE)).name == "cpu"


@pytest.mark.parametrize(
    ("cores", "instances", "lanes", "threads"), [(2, 1, 2, 1), (2, 2, 1, 1), (16, 2, 4, 2)]
)
def test_the_instances_threads_fit_the_cores(asr, monkeypatch, cores, instances, lanes, threads):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)))
    device = asr.device.choose_device({"model_instance_kind": "CPU"}, {}, instances, HardwareDouble())
    assert (device.name, device.compute_type) == ("cpu", "int8")
    assert (device.lanes, device.threads) == (lanes, threads)


class Decoder:
    """Runs lanes on a function that takes each item of a call and waits, until `go`."""

    def __init__(self, asr: SimpleNamespace, *, lanes: int, long_apart: bool, batch: int) -> None:
        self.go, self.calls = threading.Event(), []
        batches = dict.fromkeys(asr.lanes.Work, batch)
        self.lanes = asr.lanes.Lanes(self._run, asr.lanes.lanes_of(lanes, long_apart=long_apart), batches)

    def _run(self, items: list[str], work: int) -> None:
        self.calls.append(items)
        assert self.go.wait(10)

    def put(self, work: int, *items: str) -> None:
        self.lanes.put(items, work)

    def begun(self, *items: str) -> bool:
        wait_until(lambda: set(items) <= {item for items in self.calls for item in items})
        return True

    def never_begins(self, item: str) -> bool:
        time.sleep(0.1)
        return all(item not in items for items in self.calls)

    def end(self) -> list[str]:
        """Let all go on; returns what was decoded, in order."""
        self.go.set()
        self.lanes.close()
        return [item for items in self.calls for item in items]


@pytest.mark.parametrize("long_apart", [False, True])
def test_long_files_leave_a_lane_to_urgent_requests(asr, long_apart):
    work, decoder = asr.lanes.Work, Decoder(asr, lanes=2, long_apart=long_apart, batch=2)
    long = [f"long {n}" for n in range(6)]
    decoder.put(work.LONG, *long)
    assert decoder.begun(*long[:4])
    decoder.put(work.LIVE, "LIVE")
    assert decoder.begun("LIVE")
    assert sorted(decoder.end()) == sorted([*long, "LIVE"])


def test_a_lane_of_long_files_rests_while_a_short_request_is_decoded(asr):
    work, decoder = asr.lanes.Work, Decoder(asr, lanes=2, long_apart=False, batch=1)
    decoder.put(work.LIVE, "live")
    assert decoder.begun("live")
    decoder.put(work.LONG, "long 0", "long 1")
    assert decoder.begun("long 0")
    assert decoder.never_begins("long 1")
    assert decoder.end() == ["live", "long 0", "long 1"]


def test_drafts_leave_half_of_the_lanes_and_final_results_find_one_free(asr):
    work, decoder = asr.lanes.Work, Decoder(asr, lanes=2, long_apart=True, batch=1)
    decoder.put(work.DRAFT, "draft 0", "draft 1")
    assert decoder.begun("draft 0")
    assert decoder.never_begins("draft 1")
    decoder.put(work.SHORT, "short 0", "short 1")
    assert decoder.begun("short 0")
    assert decoder.never_begins("short 1")
    decoder.put(work.LIVE, "final")
    assert decoder.begun("final")
    # Drafts go before short requests where a lane does both.
    assert sorted(decoder.end()) == ["draft 0", "draft 1", "final", "short 0", "short 1"]


def test_threads_of_low_priority_leave_the_others_theirs(asr):
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def started_thread() -> int:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(niceness).result()

    usual = niceness()
    assert asr.cpu_priority.at_low_priority(started_thread) == min(19, usual + asr.cpu_priority.NICENESS)
    assert (niceness(), started_thread()) == (usual, usual)


def test_weights_are_loaded_twice_on_a_cpu_where_they_are_small(asr):
    def device(instance: str, size: int) -> Any:
        hardware = HardwareDouble(*[AMPERE] * (instance == "GPU"))
        given = {"model_instance_kind": instance, "model_instance_device_id": "0"}
        return asr.device.choose_device(given, {}, 1, hardware, weights_bytes=size)

    assert device("CPU", 145_000_000).long_apart
    assert not device("CPU", 3_000_000_000).long_apart
    assert not device("GPU", 145_000_000).long_apart


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
