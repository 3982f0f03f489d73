"""Whisper's vocabulary: token ids to text, and the special tokens by which decoding is steered.

Only decoding is needed, which is a table look-up, so the tokenizer library is not.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference_service.errors import RuntimeFailed

_LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>")


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """A Whisper vocabulary."""

    pieces: dict[int, bytes]  # of ordinary tokens
    special: dict[str, int]  # by their text, as <|endoftext|>
    languages: dict[str, int]  # by code, as en; empty for an English-only model

    @property
    def end_of_text(self) -> int:
        return self.special["<|endoftext|>"]

    def start(self, language: str | None) -> list[int]:
        """The tokens before the first word: transcription in `language` without timestamps."""
        tokens = [self.special["<|startoftranscript|>"]]
        if language is not None and self.languages:
            tokens += [self.languages[language], self.special["<|transcribe|>"]]
        return [*tokens, self.special["<|notimestamps|>"]]

    def text(self, tokens: list[int]) -> str:
        """The text of ordinary tokens; bytes that are no UTF-8 become replacement characters."""
        return b"".join(self.pieces.get(token, b"") for token in tokens).decode("utf-8", errors="replace")


def load_tokenizer(path: Path, special_tokens: Path | None) -> Tokenizer:
    """Read `tokenizer.json`, `vocab.json` or `vocabulary.txt`, or a folder that holds one of them.

    `special_tokens` is a JSON object of special tokens to ids (or a list of `{content, id}`) for a vocabulary
    that does not list its own. Raises RuntimeFailed saying what cannot be read or which token is missing.
    """
    file = _file_in(path)
    vocabulary, added = _read_vocabulary(file)
    if special_tokens is not None:
        added = {**added, **_special(_read_json(special_tokens), special_tokens)}
    special = {
        text: token for text, token in {**vocabulary, **added}.items() if re.fullmatch(r"<\|.*\|>", text)
    }
    missing = {"<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"} - set(special)
    if missing:
        raise RuntimeFailed(
            f"tokenizer_path {file}: no {', '.join(sorted(missing))}; give them with special_tokens_path"
        )
    byte_of = _byte_of_character()
    # Timestamps and other special tokens lie above the end of text; nothing ordinary does.
    end = special["<|endoftext|>"]
    pieces = {
        token: bytes(byte_of[character] for character in text if character in byte_of)
        for text, token in vocabulary.items()
        if token < end
    }
    # Whisper's multilingual vocabularies have one ordinary token more than the English-only ones.
    multilingual = "<|transcribe|>" in special and end != 50256
    languages = {
        match[1]: token
        for text, token in special.items()
        if multilingual and (match := _LANGUAGE.fullmatch(text))
    }
    return Tokenizer(pieces, special, languages)


def _file_in(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in ("tokenizer.json", "vocab.json", "vocabulary.json", "vocabulary.txt"):
        if (path / name).is_file():
            return path / name
    raise RuntimeFailed(
        f"tokenizer_path {path}: no tokenizer.json, vocab.json or vocabulary.txt in this folder"
    )


def _read_vocabulary(file: Path) -> tuple[dict[str, int], dict[str, int]]:
    """(vocabulary, added tokens), both text -> id."""
    if file.suffix == ".txt":
        lines = _read_text(file).splitlines()
        return {text: token for token, text in enumerate(lines)}, {}
    content = _read_json(file)
    if isinstance(content, list):
        return {str(text): token for token, text in enumerate(content)}, {}
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        vocabulary = content["model"].get("vocab")
        if isinstance(vocabulary, dict):
            return vocabulary, _special(content.get("added_tokens", []), file)
    elif isinstance(content, dict) and all(isinstance(token, int) for token in content.values()):
        return content, {}
    raise RuntimeFailed(f"tokenizer_path {file}: not a tokenizer.json and not a vocabulary of tokens to ids")


def _special(content: Any, file: Path) -> dict[str, int]:
    if isinstance(content, dict) and "added_tokens" in content:
        content = content["added_tokens"]
    try:
        if isinstance(content, dict):
            return {str(text): int(token) for text, token in content.items()}
        return {str(token["content"]): int(token["id"]) for token in content}
    except (TypeError, ValueError, KeyError) as error:
        raise RuntimeFailed(f"{file}: expected special tokens with their ids") from error


def _read_json(path: Path) -> Any:
    try:
        return json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise RuntimeFailed(f"{path}: is not JSON: {error}") from error


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RuntimeFailed(f"{path}: cannot be read: {error}") from error


def _byte_of_character() -> dict[str, int]:
    """Byte-level BPE writes every byte as one printable character; this is the way back."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}
