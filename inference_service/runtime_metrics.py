"""The runtime's own metrics, for the node's `/metrics`: a Prometheus then asks each node once.

Triton has the figures of its models' batches and queues, and those of the GPUs. Its metrics port answers
nobody outside the node.
"""

import httpx2

from inference_service.settings import Settings

_SECONDS = 1.0
UP, UP_SAID = "ai_runtime_metrics_up", "Whether the runtime gave its own metrics, which follow: 1 or 0."
_UP = f"# HELP {UP} {UP_SAID}\n# TYPE {UP} gauge\n{UP} {{up}}\n"


class RuntimeMetrics:
    """Reads the metrics of the runtime in the settings; a runtime other than Triton has none."""

    def __init__(self, settings: Settings) -> None:
        runtime = settings.ai.runtime
        self._url = runtime.triton.metrics_url if settings.backend == "triton" else None
        self._client: httpx2.AsyncClient | None = None

    async def text(self) -> bytes:
        """Prometheus text, empty for a runtime without metrics. A runtime that is silent for a second, or
        answers anything else, is `ai_runtime_metrics_up 0`."""
        if self._url is None:
            return b""
        if self._client is None:
            self._client = httpx2.AsyncClient(timeout=_SECONDS, trust_env=False)
        try:
            answer = await self._client.get(self._url)
        except (httpx2.HTTPError, OSError):
            return _UP.format(up=0).encode()
        if answer.status_code != 200:
            return _UP.format(up=0).encode()
        return _UP.format(up=1).encode() + answer.content
