"""Converts a Whisper checkpoint of Transformers to CTranslate2. Needs the extra `convert`."""

from __future__ import annotations

import json
from pathlib import Path

import ctranslate2
import transformers
from safetensors import SafetensorError

from infra.models.problem import ModelProblem

#: The types that the weights can be stored in; `asr` computes in the type that suits the hardware.
QUANTIZATIONS = ("float16", "bfloat16", "int8", "int8_float16", "float32")


def check_is_whisper(checkpoint: Path) -> None:
    """Raise ModelProblem if the checkpoint is of another kind, with what to do with it."""
    try:
        kind = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError) as error:
        raise ModelProblem(f"{checkpoint} is no checkpoint of Transformers: config.json: {error}") from None
    if kind != "whisper":
        raise ModelProblem(
            f"{checkpoint} is a {kind}, and only whisper can be converted; `export` takes classifiers"
        )


def convert(checkpoint: Path, weights: Path, quantization: str) -> None:
    """Convert the checkpoint in a folder to CTranslate2, in the folder `weights`. Raises ModelProblem."""
    transformers.utils.logging.disable_progress_bar()
    if not (checkpoint / "tokenizer.json").is_file():
        _write_fast_tokenizer(checkpoint)
    copied = [
        name for name in ("tokenizer.json", "preprocessor_config.json") if (checkpoint / name).is_file()
    ]
    converter = ctranslate2.converters.TransformersConverter(
        str(checkpoint), copy_files=copied, load_as_float16=quantization in ("float16", "int8_float16")
    )
    try:
        converter.convert(str(weights), quantization=quantization, force=True)
    except (ValueError, KeyError, AttributeError, RuntimeError, OSError, SafetensorError) as error:
        raise ModelProblem(f"{checkpoint}: CTranslate2 cannot convert it: {error}") from None
    _keep_languages(checkpoint, weights)
    ctranslate2.models.Whisper(str(weights), device="cpu", compute_type="float32")  # it loads


def _write_fast_tokenizer(checkpoint: Path) -> None:
    # Checkpoints of 2022 have vocab.json and merges.txt instead.
    try:
        transformers.AutoTokenizer.from_pretrained(checkpoint).save_pretrained(checkpoint)
    except (OSError, ValueError) as error:
        raise ModelProblem(f"{checkpoint} has no tokenizer: {error}") from None


def _keep_languages(checkpoint: Path, weights: Path) -> None:
    # The converter takes the languages from generation_config.json, which many fine-tuned checkpoints lack.
    config = json.loads((weights / "config.json").read_text(encoding="utf-8"))
    if config.get("lang_ids"):
        return
    tokens = json.loads((weights / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    ids = {token["content"]: token["id"] for token in tokens}
    start, translate = ids.get("<|startoftranscript|>"), ids.get("<|translate|>")
    if start is None or translate is None:
        raise ModelProblem(f"{checkpoint}: tokenizer.json has not Whisper's special tokens")
    # Whisper's vocabulary has the languages between these two.
    if ids.get("<|en|>") is not None:
        config["lang_ids"] = list(range(start + 1, translate))
        (weights / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
