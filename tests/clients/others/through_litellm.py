"""`through_litellm.py BASE_URL API_KEY RECORDING`: what LiteLLM makes of the answers, as JSON."""

import json
import os
import sys
from pathlib import Path

# Else LiteLLM asks the internet for the prices of models.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
import openai

base_url, key, recording = sys.argv[1:]


def transcribe(model: str, **fields: object) -> dict[str, object]:
    with Path(recording).open("rb") as file:
        answer = litellm.transcription(
            model=f"openai/{model}", file=file, api_base=base_url, api_key=key, max_retries=0, **fields
        )
    return answer.model_dump(mode="json")


told = {
    format: transcribe("whisper-1", response_format=format)
    for format in ("json", "text", "srt", "vtt", "verbose_json")
}
told["words"] = transcribe(
    "gpt-4o-transcribe",
    response_format="verbose_json",
    timestamp_granularities=["word"],
    language="en",
    prompt="Kennedy",
    temperature=0,
)
try:
    transcribe("whisper-9")
except openai.NotFoundError as error:
    told["refusal"] = str(error)
print(json.dumps(told))
