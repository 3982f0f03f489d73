"""The inputs of a speech model beside the waveform: its length, the language, Whisper's prefix, options."""

import json
import re

import numpy as np
from tritonclient.grpc import service_pb2 as pb

from inference_service.errors import BadRequest
from inference_service.runtimes.base import refuse_options
from inference_service.runtimes.triton.contract import Interface
from inference_service.runtimes.triton.inference import add_text
from inference_service.settings import AsrModelSettings
from inference_service.tasks import UNDETERMINED, Priority, TranscribeOptions

#: Whisper's tokens of the two tasks, in a prefix.
_TRANSCRIBE, _TRANSLATE = "<|transcribe|>", "<|translate|>"


def language_of(asr: AsrModelSettings, options: TranscribeOptions) -> str:
    """The language of the audio as far as the request and the settings name it."""
    return options.language or asr.default_language or UNDETERMINED


def add_speech_inputs(
    request: pb.ModelInferRequest,
    interface: Interface,
    asr: AsrModelSettings,
    options: TranscribeOptions,
    priority: Priority,
    samples: int,
) -> None:
    """Add those inputs that the model has, and Triton's own parameter for the priority.

    Triton batches only requests with the same inputs. So a model that takes options gets both texts with
    every request; an empty language means that the model detects it. Raises BadRequest for a language that
    fits no prefix, and for options that the model does not take.
    """
    # A model without priority levels ignores this.
    request.parameters["priority"].uint64_param = priority
    given = {
        "word_timestamps": options.word_timestamps,
        "prompt": options.prompt,
        "temperature": options.temperature,
        "priority": int(priority),
        "draft": options.draft,
        "hotwords": options.hotwords,
        "languages": options.languages,
        "task": "translate" if options.translate else None,
    }
    takes_options = asr.options_name in interface.inputs
    prefix = asr.prefix.replace(_TRANSCRIBE, _TRANSLATE) if options.translate else asr.prefix
    if not takes_options:
        by_prefix = asr.prefix_name and _TRANSLATE in prefix
        refuse_options(options, f"the model {asr.model_name}", ("translate",) if by_prefix else ())
    texts = {asr.language_name: options.language or ("" if takes_options else None)}
    if takes_options:
        texts[asr.options_name] = json.dumps({name: value for name, value in given.items() if value})
    for name, text in texts.items():
        if text is not None and name in interface.inputs:
            add_text(request, name, interface.shape_to_send(name, (1,)), text)
    if asr.prefix_name:
        prefix = prefix.replace("{language}", _code(language_of(asr, options)))
        add_text(request, asr.prefix_name, interface.shape_to_send(asr.prefix_name, (1,)), prefix)
    if asr.lengths_name:
        datatype = interface.inputs[asr.lengths_name].datatype
        shape = interface.shape_to_send(asr.lengths_name, (1,))
        request.inputs.add(name=asr.lengths_name, datatype=datatype, shape=shape)
        length = np.array(samples, dtype="<i4" if datatype == "INT32" else "<i8")
        request.raw_input_contents.append(length.tobytes())


def _code(language: str) -> str:
    """The code of Whisper's language token: `en` of `en-US`."""
    code = re.split("[-_]", language.lower())[0]
    if not re.fullmatch("[a-z]{2,3}", code):
        raise BadRequest(f"language: expected a code such as en or de, got {language[:40]!r}")
    return code
