"""Where an instance of the model computes, in which type, and with how many threads."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

# The first that the hardware computes well. Pascal and older have no fast float16.
_GPU_TYPES = ("float16", "int8_float16", "int8_float32", "float32")
_CPU_TYPES = ("int8", "int8_float32", "float32")

# Windows in one call of the decoder. A CPU gains little from more; on a GPU they cost hardly more than one.
_CPU_BATCH, _GPU_BATCH = 2, 16
# Drafts are short, and half of their cost is that of a step of the decoder: four cost as much as two alone.
_DRAFTS = 4
_MOST_CPU_LANES = 4

# Bytes of weights up to which an instance on the CPU loads them twice.
_COPIED_WEIGHTS = 1 << 30


class Hardware(Protocol):
    """What `choose_device` asks of CTranslate2."""

    def get_cuda_device_count(self) -> int: ...
    def get_supported_compute_types(self, device: str, device_index: int = 0) -> Collection[str]: ...


@dataclass(frozen=True)
class Device:
    """`name`: cpu or cuda. `indices`: GPUs. `lanes`: calls of the decoder side by side, besides one that is
    kept for urgent requests. `workers`: CTranslate2's workers of one GPU, or of the CPU, for all of these.
    `threads`: of a worker, on the CPU. `batch`: windows in one call, at most. `drafts`: drafts in one call.
    `long_apart`: long files have a copy of the weights and workers of their own, of low priority."""

    name: str
    indices: tuple[int, ...]
    compute_type: str
    lanes: int
    workers: int
    threads: int
    batch: int
    drafts: int
    long_apart: bool = False


def choose_device(
    instance: Mapping[str, str],
    parameters: Mapping[str, str],
    instances: int,
    hardware: Hardware,
    *,
    weights_bytes: int = 0,
) -> Device:
    """The device of an instance.

    `instance`: Triton's arguments `model_instance_kind` and `model_instance_device_id`. An instance on a GPU
    uses that GPU. One on the CPU uses every GPU that CTranslate2 sees, else the CPU, of which `instances`
    share the cores: so the model also uses GPUs under a Triton that was built without them.
    `parameters`: of config.pbtxt. `weights_bytes`: the size of the weights. Raises `ValueError` for what the
    hardware cannot do.
    """
    asked = parameters.get("device", "auto")
    kind = instance.get("model_instance_kind", "").removeprefix("KIND_")
    gpus = hardware.get_cuda_device_count()
    if asked not in ("auto", "cpu", "cuda"):
        raise ValueError(f"the parameter device is {asked!r}: expected auto, cpu or cuda")
    if kind == "GPU" and asked != "cpu":
        index = int(instance["model_instance_device_id"])
        if index >= gpus:
            raise ValueError(f"Triton places the model on GPU {index}, but CTranslate2 sees {gpus} GPUs")
        return _gpu((index,), parameters, hardware)
    if asked == "cuda" and gpus == 0:
        raise ValueError("the parameter device is cuda, but CTranslate2 sees no GPU")
    if gpus and asked != "cpu":
        return _gpu(tuple(range(gpus)), parameters, hardware)
    cores = max(1, len(os.sched_getaffinity(0)) // max(1, instances))
    return _cpu(parameters, cores, hardware, weights_bytes)


def _gpu(indices: tuple[int, ...], parameters: Mapping[str, str], hardware: Hardware) -> Device:
    supported = set.intersection(
        *(set(hardware.get_supported_compute_types("cuda", index)) for index in indices)
    )
    compute_type = _compute_type(parameters, _GPU_TYPES, supported, f"GPU {', '.join(map(str, indices))}")
    # CTranslate2 gives a call to any GPU that is free; one more call than GPUs for the short requests.
    lanes = _number(parameters, "workers") or len(indices)
    workers = -(-(lanes + 1) // len(indices))
    batch = _number(parameters, "batch") or _GPU_BATCH
    return Device("cuda", indices, compute_type, lanes, workers, 0, batch, drafts=batch)


def _cpu(parameters: Mapping[str, str], cores: int, hardware: Hardware, weights_bytes: int) -> Device:
    supported = hardware.get_supported_compute_types("cpu", 0)
    # Side by side on a core each, windows cost a quarter less than one after the other on all cores.
    lanes = _number(parameters, "workers") or min(_MOST_CPU_LANES, cores)
    threads = _number(parameters, "threads") or max(1, cores // lanes)
    compute_type = _compute_type(parameters, _CPU_TYPES, supported, "CPU")
    batch = _number(parameters, "batch") or _CPU_BATCH
    return Device(
        "cpu",
        (0,),
        compute_type,
        lanes,
        lanes + 1,
        threads,
        batch,
        drafts=max(batch, _DRAFTS),
        long_apart=weights_bytes <= _COPIED_WEIGHTS,
    )


def _compute_type(
    parameters: Mapping[str, str], preferred: Collection[str], supported: Collection[str], where: str
) -> str:
    asked = parameters.get("compute_type", "auto")
    if asked != "auto":
        if asked not in supported:
            raise ValueError(
                f"the parameter compute_type is {asked!r}, which the {where} does not support; "
                f"it supports {', '.join(sorted(supported))}"
            )
        return asked
    return next(each for each in preferred if each in supported)


def _number(parameters: Mapping[str, str], name: str) -> int:
    """The parameter, 0 (choose) where it is missing or `auto`."""
    text = parameters.get(name, "0")
    if text == "auto":
        return 0
    if not text.isdecimal():
        raise ValueError(f"the parameter {name} is {text!r}: expected a number, 0 to choose it")
    return int(text)
