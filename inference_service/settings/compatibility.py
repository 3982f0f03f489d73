"""Keys of the original service's settings file that are renamed here, or have no effect."""

import difflib
from typing import Any

from inference_service.settings.types import Settings

#: Keys without effect, and what to use instead.
OBSOLETE = {
    "server.mode": "use server.log_level",
    "server.read_timeout": "use ai.request.upload_timeout",
    "server.write_timeout": "use ai.request.timeout",
    "ai.runtime.providers": "Triton chooses its devices in config.pbtxt",
    "ai.runtime.device_id": "Triton chooses its devices in config.pbtxt",
    "ai.runtime.library_path": "models run in Triton, not in this process",
    "ai.runtime.intra_op_threads": "models run in Triton, not in this process",
    "ai.runtime.inter_op_threads": "models run in Triton, not in this process",
    "ai.runtime.enable_fp16": "models run in Triton, not in this process",
    "ai.runtime.enable_tensorrt": "models run in Triton, not in this process",
    "ai.request.max_retries": "the gateway tries the next node",
    "ai.request.retry_delay": "the gateway tries the next node",
    "ai.cache": "results are not cached",
    "ai.rate_limit": "the gateway limits rates",
}


def adopt(data: dict[str, Any]) -> list[str]:
    """Rename the original service's keys in `data`, and delete unknown sections and obsolete keys.

    Returns one warning for each deleted key.
    """
    warnings = []
    for section in sorted(set(data) - set(Settings.model_fields)):
        near = difflib.get_close_matches(section, Settings.model_fields, n=1, cutoff=0.75)
        hint = f"; did you mean {near[0]}?" if near else ""
        warnings.append(f"{section}: not a section of this service, ignored{hint}")
        del data[section]
    for path, instead in OBSOLETE.items():
        *parents, key = path.split(".")
        section_data = _section(data, parents)
        if key in section_data:
            warnings.append(f"{path}: has no effect: {instead}")
            del section_data[key]
    server = _section(data, ["server"])
    if "port" in server:
        server.setdefault("http_port", server.pop("port"))
    triton = _section(data, ["ai", "runtime", "triton"])
    if "timeout_ms" in triton:
        triton.setdefault("timeout", f"{triton.pop('timeout_ms')}ms")
    return warnings


def _section(data: dict[str, Any], path: list[str]) -> dict[str, Any]:
    """Return the mapping at `path`, or a new empty one if `data` has none there."""
    section: Any = data
    for key in path:
        section = section.get(key) if isinstance(section, dict) else None
    return section if isinstance(section, dict) else {}
