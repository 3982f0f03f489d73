"""The service's settings: one YAML file with the original service's keys, each also an environment variable.

`load` reads both and reports every mistake at once, each by the path of its key. A key's environment variable
is its path in capitals with two underscores between the steps (`ai.runtime.triton.endpoint` is
`AI__RUNTIME__TRITON__ENDPOINT`). It overrides the file.
"""

from inference_service.settings.load import check, load
from inference_service.settings.models import (
    AsrModelSettings,
    ClassifierSettings,
    EmotionModelSettings,
    ModelSettings,
    ModelsSettings,
    SynthesisModelSettings,
)
from inference_service.settings.problems import SettingsError
from inference_service.settings.runtime import (
    BackendName,
    EdgeLlmSettings,
    RemoteSettings,
    RuntimeSettings,
    TlsSettings,
    TritonSettings,
)
from inference_service.settings.traces import TRACES_PATH, TracesSettings, collector_url
from inference_service.settings.types import (
    AiSettings,
    RequestSettings,
    ServerSettings,
    Settings,
    StreamingSettings,
)
