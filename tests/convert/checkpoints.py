"""Tiny checkpoints of Transformers with random weights, made in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from transformers.models.whisper.tokenization_whisper import LANGUAGES

_END = "<|endoftext|>"
_TASKS = ("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")
#: The text tokens of Whisper's multilingual vocabulary.
_TEXT_TOKENS = 50257


def whisper(folder: Path) -> Path:
    """A multilingual Whisper checkpoint: the whole vocabulary, one layer, width 16."""
    tokenizer = _tokenizer()
    ids = {token: number for token, number in tokenizer.get_vocab().items() if token.startswith("<|")}
    languages = {f"<|{code}|>": ids[f"<|{code}|>"] for code in list(LANGUAGES)[:99]}
    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        vocab_size=tokenizer.get_vocab_size(),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        pad_token_id=ids[_END],
        bos_token_id=ids[_END],
        eos_token_id=ids[_END],
        decoder_start_token_id=ids["<|startoftranscript|>"],
        suppress_tokens=[],
        begin_suppress_tokens=[],
    )
    model = transformers.WhisperForConditionalGeneration(config)
    settings: Any = model.generation_config
    settings.lang_to_id, settings.is_multilingual = languages, True
    settings.no_timestamps_token_id = ids["<|notimestamps|>"]
    settings.alignment_heads = [[0, 0]]
    model.save_pretrained(folder)
    transformers.WhisperFeatureExtractor().save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=_END, bos_token=_END, eos_token=_END
    ).save_pretrained(folder)
    return folder


def _tokenizer() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    # By the empty token at the end CTranslate2 tells multilingual vocabularies from English ones.
    texts = [*alphabet, *(f"w{number}" for number in range(_TEXT_TOKENS - len(alphabet) - 1)), ""]
    vocabulary = {text: number for number, text in enumerate(texts)}
    tokenizer = Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [_END, "<|startoftranscript|>", *(f"<|{code}|>" for code in list(LANGUAGES)[:99])]
    special += [f"<|{task}|>" for task in _TASKS]
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    times = [f"<|{step * 0.02:.2f}|>" for step in range(1501)]
    tokenizer.add_tokens([AddedToken(token) for token in times])
    return tokenizer


def classifier(
    folder: Path, kind: str, labels: list[str], *, normalised: bool = True, **changes: Any
) -> Path:
    """A classifier of waveforms; `kind` is the beginning of its class's name, such as Wav2Vec2."""
    torch.manual_seed(1)
    config = getattr(transformers, f"{kind}Config")(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        conv_dim=(32, 32, 32),
        conv_stride=(5, 4, 4),
        conv_kernel=(10, 8, 4),
        num_feat_extract_layers=3,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        classifier_proj_size=16,
        # Wide enough that a wrong normalisation shows in the logits.
        initializer_range=0.2,
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
        **changes,
    )
    model = getattr(transformers, f"{kind}ForSequenceClassification")(config)
    model.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=normalised).save_pretrained(folder)
    return folder
