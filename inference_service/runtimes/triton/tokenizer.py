"""Whisper's vocabulary: token ids to text, and the special tokens that steer decoding."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models

from inference_service.errors import RuntimeFailed

_SPECIAL = re.compile(r"<\|.*\|>")
_LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>")

#: The end of the text in English-only vocabularies. Multilingual ones have one ordinary token more.
_ENGLISH_ONLY_END = 50256


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """A Whisper vocabulary."""

    vocabulary: tokenizers.Tokenizer
    special: dict[str, int]  # by their text, as <|endoftext|>
    languages: dict[str, int]  # by code, as en; empty for an English-only model

    @property
    def end_of_text(self) -> int:
        """The id of the token that ends a text. Every ordinary token's id is below it."""
        return self.special["<|endoftext|>"]

    @property
    def can_translate(self) -> bool:
        """Whether the model can write in English what is spoken in another language."""
        return bool(self.languages) and "<|translate|>" in self.special

    def start(self, language: str | None, *, translate: bool = False) -> list[int]:
        """Return the tokens before the first word of a transcript in `language` without timestamps, or of its
        translation."""
        tokens = [self.special["<|startoftranscript|>"]]
        if language is not None and self.languages:
            task = "<|translate|>" if translate else "<|transcribe|>"
            tokens += [self.languages[language], self.special[task]]
        return [*tokens, self.special["<|notimestamps|>"]]

    def text(self, tokens: list[int]) -> str:
        """Return the text of the ordinary tokens in `tokens`, with U+FFFD for bytes that are not UTF-8."""
        return self.vocabulary.decode([token for token in tokens if token < self.end_of_text])


def load_tokenizer(path: Path, special_tokens: Path | None) -> Tokenizer:
    """Read `tokenizer.json`, `vocab.json` or `vocabulary.txt`, or a folder that holds one of them.

    `special_tokens` is a JSON object of special tokens to ids (or a list of `{content, id}`) for a vocabulary
    that does not list its own. Raises RuntimeFailed with the file that cannot be read or the missing tokens.
    """
    file = _file_in(path)
    vocabulary = _read_vocabulary(file)
    vocabulary.decoder = decoders.ByteLevel()
    tokens = vocabulary.get_vocab()
    if special_tokens is not None:
        tokens |= _read_special(special_tokens)
    special = {text: token for text, token in tokens.items() if _SPECIAL.fullmatch(text)}
    missing = {"<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"} - set(special)
    if missing:
        raise RuntimeFailed(
            f"tokenizer_path {file}: no {', '.join(sorted(missing))}; give them with special_tokens_path"
        )
    languages = {}
    if "<|transcribe|>" in special and special["<|endoftext|>"] != _ENGLISH_ONLY_END:
        languages = {
            match[1]: token for text, token in special.items() if (match := _LANGUAGE.fullmatch(text))
        }
    return Tokenizer(vocabulary, special, languages)


def _file_in(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in ("tokenizer.json", "vocab.json", "vocabulary.json", "vocabulary.txt"):
        if (path / name).is_file():
            return path / name
    raise RuntimeFailed(
        f"tokenizer_path {path}: no tokenizer.json, vocab.json or vocabulary.txt in this folder"
    )


def _read_vocabulary(file: Path) -> tokenizers.Tokenizer:
    content = _read(file)
    try:
        if isinstance(content, dict) and isinstance(content.get("model"), dict):
            return tokenizers.Tokenizer.from_file(str(file))
        ids = (
            content if isinstance(content, dict) else {token: number for number, token in enumerate(content)}
        )
        return tokenizers.Tokenizer(models.BPE(ids, []))
    except Exception as error:  # the library raises nothing narrower
        raise RuntimeFailed(
            f"tokenizer_path {file}: neither a tokenizer.json nor a vocabulary of tokens to ids: {error}"
        ) from error


def _read_special(file: Path) -> dict[str, int]:
    content = _read(file)
    if isinstance(content, dict):
        content = content.get("added_tokens", content)
    try:
        if isinstance(content, dict):
            return {str(text): int(token) for text, token in content.items()}
        return {str(token["content"]): int(token["id"]) for token in content}
    except (TypeError, ValueError, KeyError) as error:
        raise RuntimeFailed(f"{file}: expected special tokens with their ids") from error


def _read(file: Path) -> Any:
    """Return the lines of a text file, or the content of a JSON file."""
    try:
        text = file.read_text(encoding="utf-8")
        return text.splitlines() if file.suffix == ".txt" else json.loads(text)
    except json.JSONDecodeError as error:
        raise RuntimeFailed(f"{file}: is not JSON: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RuntimeFailed(f"{file}: cannot be read: {error}") from error
