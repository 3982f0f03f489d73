"""One node or several: work, times, models, and the host under them."""

from grafana_foundation_sdk.builders import dashboard as builders

from scripts.dashboards.panels import BAD_IS_MORE, GOOD_IS_ONE, board, chart, filled, number, row, variable

OF = 'stack=~"$stack", node=~"$node"'
_HOST = 'job="fleet-host", stack=~"$stack", instance=~"$host"'
_DISKS = f'{_HOST}, fstype!~"tmpfs|overlay|squashfs|ramfs"'


def variables(made: builders.Dashboard) -> builders.Dashboard:
    """Adds the variables `stack` and `node`."""
    made = made.with_variable(variable("stack", "Stack", "ai_inferences_running"))
    return made.with_variable(variable("node", "Node", 'ai_inferences_running{stack=~"$stack"}'))


def dashboard() -> builders.Dashboard:
    """The dashboard of nodes."""
    made = variables(
        board("node", "Node", "The work, times, models and host of the nodes that are chosen above.")
    )
    made = made.with_variable(
        variable("host", "Host", 'node_uname_info{job="fleet-host", stack=~"$stack"}', of="instance")
    )
    return filled(
        made,
        row("Can it work?"),
        number(
            "Ready",
            "The share of the nodes whose runtime and models can all answer.",
            f"avg(ai_ready{{{OF}}})",
            "percentunit",
            GOOD_IS_ONE,
        ),
        number(
            "Refused",
            "Inferences a second that full nodes refused.",
            f"sum(rate(ai_inferences_refused_total{{{OF}}}[5m])) or vector(0)",
            "reqps",
            ((None, "green"), (0.01, "red")),
        ),
        number(
            "Starts in an hour",
            "How often a service was started again: more than two are a crash, or an update.",
            f"sum(changes(ai_start_time_seconds{{{OF}}}[1h]))",
            "short",
            ((None, "green"), (3, "orange")),
        ),
        number(
            "Runtime's metrics",
            "The share of the nodes whose Triton gives its metrics.",
            f"avg(ai_runtime_metrics_up{{{OF}}})",
            "percentunit",
            GOOD_IS_ONE,
        ),
        number(
            "Errors",
            "Runtime calls a second that failed.",
            f'sum(rate(ai_runtime_seconds_count{{{OF}, outcome!="ok"}}[5m])) or vector(0)',
            "reqps",
            BAD_IS_MORE,
        ),
        row("Is it full?"),
        chart(
            "Running and queued",
            "Inferences that hold a slot, and those that wait for one.",
            [
                (f"sum by (node) (ai_inferences_running{{{OF}}})", "{{node}} running"),
                (f"sum by (node) (ai_inferences_queued{{{OF}}})", "{{node}} queued"),
            ],
            "short",
        ),
        chart(
            "Time in the queue",
            "Half of the inferences and 99 of 100 waited no longer for a slot.",
            [
                (
                    f"histogram_quantile({share}, sum by (node, le) (rate(ai_queue_seconds_bucket{{{OF}}}"
                    "[$__rate_interval])))",
                    f"{{{{node}}}} {name}",
                )
                for share, name in ((0.5, "half"), (0.99, "99 of 100"))
            ],
            "s",
        ),
        chart(
            "Long recordings",
            "Recordings that are recognised in windows, and those that wait for their turn.",
            [
                (f"sum by (node) (ai_recordings_running{{{OF}}})", "{{node}} running"),
                (f"sum by (node) (ai_recordings_queued{{{OF}}})", "{{node}} queued"),
            ],
            "short",
        ),
        chart(
            "Memory of requests",
            "Bodies, decoded audio and stream buffers that the service holds.",
            [(f"sum by (node) (ai_bytes_held{{{OF}}})", "{{node}}")],
            "bytes",
        ),
        row("What does Triton do?"),
        chart(
            "Inferences by model",
            "Triton's own count.",
            [(f"sum by (model) (rate(nv_inference_count{{{OF}}}[$__rate_interval]))", "{{model}}")],
            "ops",
        ),
        chart(
            "Batch size",
            "Inferences in one execution of the model: more than 1 means that Triton batches.",
            [
                (
                    f"sum by (model) (rate(nv_inference_count{{{OF}}}[$__rate_interval]))"
                    f" / sum by (model) (rate(nv_inference_exec_count{{{OF}}}[$__rate_interval]) > 0)",
                    "{{model}}",
                )
            ],
            "short",
        ),
        chart(
            "Time in Triton's queue",
            "The mean of an inference.",
            [
                (
                    f"sum by (model) (rate(nv_inference_queue_duration_us{{{OF}}}[$__rate_interval]))"
                    f" / sum by (model) (rate(nv_inference_request_success{{{OF}}}[$__rate_interval]) > 0)",
                    "{{model}}",
                )
            ],
            "µs",
        ),
        chart(
            "Failures by model",
            "Inferences that Triton refused or that failed.",
            [(f"sum by (model) (rate(nv_inference_request_failure{{{OF}}}[$__rate_interval]))", "{{model}}")],
            "ops",
        ),
        row("And the host?"),
        chart(
            "Processors",
            "The share of the host's processor time that is used.",
            [
                (
                    "1 - avg by (instance)"
                    f' (rate(node_cpu_seconds_total{{{_HOST}, mode="idle"}}[$__rate_interval]))',
                    "{{instance}}",
                )
            ],
            "percentunit",
            span=8,
            most=1,
        ),
        chart(
            "Memory",
            "The share of the host's memory that is not available.",
            [
                (
                    f"1 - node_memory_MemAvailable_bytes{{{_HOST}}} / node_memory_MemTotal_bytes{{{_HOST}}}",
                    "{{instance}}",
                )
            ],
            "percentunit",
            span=8,
            most=1,
        ),
        chart(
            "Disks",
            "The share that is used. The alert FleetDiskFull begins at 90 %.",
            [
                (
                    f"1 - node_filesystem_avail_bytes{{{_DISKS}}} / node_filesystem_size_bytes{{{_DISKS}}}",
                    "{{instance}} {{mountpoint}}",
                )
            ],
            "percentunit",
            span=8,
            limit=0.9,
            most=1,
        ),
    )
