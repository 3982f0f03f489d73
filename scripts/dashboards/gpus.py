"""GPUs: Triton's figures, which every node with GPUs gives, and those of the DCGM exporter."""

from grafana_foundation_sdk.builders import dashboard as builders

from scripts.dashboards.node import OF, variables
from scripts.dashboards.panels import BAD_IS_MORE, board, chart, filled, number, row

# The exporter's instance is the host; its targets have the label of the stack.
_DCGM = 'job="fleet-gpu", stack=~"$stack"'
_NAME = "{{node}} {{gpu_uuid}}"
_OF_DCGM = "{{instance}} GPU {{gpu}}"


def dashboard() -> builders.Dashboard:
    """The dashboard of GPUs."""
    made = variables(
        board(
            "gpus",
            "GPUs",
            "Load, memory, power and faults. The lower half needs the DCGM exporter on the hosts.",
        )
    )
    return filled(
        made,
        row("Are they busy?"),
        number(
            "GPUs",
            "GPUs that Triton sees. One that two nodes share counts once.",
            f"count(count by (gpu_uuid) (nv_gpu_memory_total_bytes{{{OF}}}))",
            "short",
            span=6,
        ),
        number(
            "Load",
            "The mean of all GPUs.",
            f"avg(nv_gpu_utilization{{{OF}}})",
            "percentunit",
            span=6,
        ),
        number(
            "Fullest memory",
            "The share that is taken on the fullest GPU. The alert FleetGpuMemory begins at 95 %.",
            f"max(nv_gpu_memory_used_bytes{{{OF}}} / nv_gpu_memory_total_bytes{{{OF}}})",
            "percentunit",
            ((None, "green"), (0.9, "orange"), (0.95, "red")),
            span=6,
        ),
        number(
            "Faults",
            "GPUs whose driver reported an error (XID); the DCGM exporter has the last one.",
            f"count(DCGM_FI_DEV_XID_ERRORS{{{_DCGM}}} > 0) or vector(0)",
            "short",
            BAD_IS_MORE,
            span=6,
        ),
        chart(
            "Load",
            "The share of time in which a kernel ran.",
            [(f"nv_gpu_utilization{{{OF}}}", _NAME)],
            "percentunit",
            most=1,
        ),
        chart(
            "Memory",
            "The share that is taken.",
            [(f"nv_gpu_memory_used_bytes{{{OF}}} / nv_gpu_memory_total_bytes{{{OF}}}", _NAME)],
            "percentunit",
            limit=0.95,
            most=1,
        ),
        chart(
            "Power",
            "Watts, of Triton.",
            [(f"nv_gpu_power_usage{{{OF}}}", _NAME)],
            "watt",
        ),
        chart(
            "Power against the limit",
            "At 1 the GPU slows down.",
            [(f"nv_gpu_power_usage{{{OF}}} / nv_gpu_power_limit{{{OF}}}", _NAME)],
            "percentunit",
            most=1,
        ),
        row("Are they well? (DCGM exporter)"),
        chart(
            "Temperature",
            "Of the chip.",
            [(f"DCGM_FI_DEV_GPU_TEMP{{{_DCGM}}}", _OF_DCGM)],
            "celsius",
            limit=85,
        ),
        chart(
            "Clock",
            "Of the processors; it falls when the GPU is hot or short of power.",
            [(f"DCGM_FI_DEV_SM_CLOCK{{{_DCGM}}} * 1000000", _OF_DCGM)],
            "hertz",
        ),
        chart(
            "Memory traffic",
            "The share of time in which memory was read or written.",
            [(f"DCGM_FI_DEV_MEM_COPY_UTIL{{{_DCGM}}} / 100", _OF_DCGM)],
            "percentunit",
            most=1,
        ),
        chart(
            "Errors of the driver (XID)",
            "The last one of each GPU; NVIDIA's XID list says what it means.",
            [(f"DCGM_FI_DEV_XID_ERRORS{{{_DCGM}}}", _OF_DCGM)],
            "short",
        ),
    )
