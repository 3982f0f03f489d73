"""What a request may ask for, read from its `language` and `options` tensors."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from languages import language_code

TASKS = ("transcribe", "translate")
# Live streams, single windows and long files: Triton's priority levels.
PRIORITIES = (1, 2, 3)

# Whisper heeds the end of a prompt; more than its context holds would be refused by the decoder.
MAX_PROMPT_CHARACTERS = 800

_TYPES: dict[str, type | tuple[type, ...]] = {
    "word_timestamps": bool,
    "prompt": str,
    "temperature": (int, float),
    "hotwords": (str, list),
    "task": str,
    "priority": int,
    "draft": bool,
    "languages": list,
}


@dataclass(frozen=True)
class Options:
    """`language`: a code as `en`, None to detect it. `prompt`: earlier text. `hotwords`: words to expect.
    `temperature`: the first that is tried, in [0, 1]. `priority`: as Triton's; None: by the audio's length.
    `draft`: a quick answer for the partial results of live speech: less context, one try. `languages`: codes
    of those that may be spoken; empty: all that the weights know."""

    language: str | None = None
    word_timestamps: bool = False
    prompt: str | None = None
    temperature: float = 0.0
    hotwords: str | None = None
    task: str = "transcribe"
    priority: int | None = None
    draft: bool = False
    languages: tuple[str, ...] = ()

    @property
    def live(self) -> bool:
        """Whether somebody who speaks waits for the text."""
        return self.priority == PRIORITIES[0]


def read_options(language: str | None, text: str | None, languages: Collection[str]) -> Options:
    """Options from the two tensors' texts. `languages` are the codes that the weights know.

    Raises `ValueError` that names the wrong field.
    """
    try:
        fields = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        raise ValueError(f"options: not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ValueError("options: expected a JSON object")
    checked = _checked(fields)
    if "languages" in checked:
        checked["languages"] = _possible_languages(checked["languages"], languages)
    options = Options(language=language_code(language, languages), **checked)
    if options.task == "translate" and len(languages) == 1:
        raise ValueError("options.task: the loaded Whisper model knows English only and cannot translate")
    return options


def _possible_languages(asked: list, known: Collection[str]) -> tuple[str, ...]:
    if not all(isinstance(each, str) and each.strip() for each in asked):
        raise ValueError("options.languages: expected a list of languages")
    return tuple(language_code(each, known) for each in asked)


def _checked(fields: Mapping[str, object]) -> dict:
    for key, value in fields.items():
        if key not in _TYPES:
            raise ValueError(f"options.{key}: unknown; allowed: {', '.join(_TYPES)}")
        if value is None:
            continue
        expects_bool = _TYPES[key] is bool
        if not isinstance(value, _TYPES[key]) or isinstance(value, bool) != expects_bool:
            raise ValueError(f"options.{key}: {value!r} has the wrong type")
    given = {key: value for key, value in fields.items() if value is not None}
    if not 0 <= given.get("temperature", 0) <= 1:
        raise ValueError(f"options.temperature: {given['temperature']} is not between 0 and 1")
    for key, allowed in (("task", TASKS), ("priority", PRIORITIES)):
        if key in given and given[key] not in allowed:
            raise ValueError(f"options.{key}: {given[key]!r} is not one of {', '.join(map(str, allowed))}")
    if isinstance(given.get("hotwords"), list):
        if not all(isinstance(word, str) for word in given["hotwords"]):
            raise ValueError("options.hotwords: expected a text or a list of texts")
        given["hotwords"] = ", ".join(given["hotwords"])
    if "hotwords" in given:
        given["hotwords"] = given["hotwords"][:MAX_PROMPT_CHARACTERS]
    if "prompt" in given:
        given["prompt"] = given["prompt"][-MAX_PROMPT_CHARACTERS:]
    return given
