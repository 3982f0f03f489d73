"""`through_langchain.py BASE_URL API_KEY RECORDING`: the documents of LangChain's Whisper parser, as JSON."""

import contextlib
import json
import sys

from langchain_community.document_loaders.blob_loaders import Blob
from langchain_community.document_loaders.parsers.audio import OpenAIWhisperParser

base_url, key, recording = sys.argv[1:]
parser = OpenAIWhisperParser(
    api_key=key, base_url=base_url, model="gpt-transcribe", language="en", response_format="verbose_json"
)
with contextlib.redirect_stdout(sys.stderr):  # the parser prints its progress
    documents = parser.parse(Blob.from_path(recording))
print(json.dumps([document.page_content for document in documents]))
