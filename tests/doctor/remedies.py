"""The remedies of docs/doctor.md with the test that runs it, or that plants the fault and reads the remedy.

`tests/doctor/test_guide.py` holds this table and the document together. Keys are a check and the start of its
message in the document; the messages of the linter have no check.
"""

_E2E = "tests/e2e/test_8_doctor.py::"
_DRIFT = "tests/e2e/test_3_drift.py::"
_WATCHED = "tests/e2e/test_7_monitoring.py::test_a_configuration_that_somebody_changed_is_found_and_repaired"
_TLS = "tests/doctor/test_node_tls.py::"
_HOSTS = "tests/doctor/test_hosts.py::"
_GATEWAY = "tests/doctor/test_gateway.py::"
_LINTER = "tests/doctor/test_linter.py::"
_EMBEDDED = "tests/doctor/test_embedded.py::"
_ADDRESS = "tests/doctor/test_virtual_address.py::"
_RECORDING = "tests/doctor/test_recording.py::"
_ADVICE = "tests/doctor/test_guide.py::test_the_remedy_depends_on_the_message"

#: Remedies that are commands or settings: the test applies them on real hosts, commands as the doctor prints
#: them, and the fault is gone.
RUN: dict[tuple[str, str], str] = {
    ("gpu in a container", "Failed to initialize NVML"): f"{_E2E}test_a_container_that_lost_its_gpu",
    ("ssh", "SSH: its host key is not known"): f"{_E2E}test_an_unknown_host_key",
    ("ssh", "SSH: its host key is not the known one"): f"{_E2E}test_a_changed_host_key",
    ("ports", "port 8800 is taken by the container"): f"{_E2E}test_a_taken_port",
    ("… container", "there is no container …"): f"{_E2E}test_a_removed_container",
    ("… container", "exited, exit code 1"): f"{_E2E}test_a_stopped_service",
    ("drift", "its image is …"): f"{_E2E}test_a_wrong_triton_endpoint",
    ("triton endpoint", "the service calls Triton at X"): f"{_E2E}test_a_wrong_triton_endpoint",
    ("edge-llm setup", "the unit manager at … cannot be reached"): f"{_E2E}test_a_unit_manager_that_is_down",
    ("ssh", "SSH: the connection timed out"): "tests/e2e/test_4_failures.py::"
    "test_skip_updates_the_rest_and_the_lost_host_catches_up",
    (
        "nginx configuration",
        "stale upstream",
    ): f"{_DRIFT}test_what_somebody_changed_is_found_shown_and_repaired",
    (
        "model copies",
        "model asr: 1/model.py",
    ): f"{_DRIFT}test_what_somebody_changed_is_found_shown_and_repaired",
    ("model copies", "model asr: its link"): f"{_DRIFT}test_a_removed_folder_is_written_again",
    ("monitoring files", "prometheus: alerts.yml"): _WATCHED,
    ("monitoring files", "prometheus: its folder"): _WATCHED,
}
#: Other remedies: many change files, machines or networks of the user, or are commands of systemd and of
#: NVIDIA's tools, which the laboratory's hosts lack. The test plants the fault and reads the remedy.
READ: dict[tuple[str, str], str] = {
    ("ssh", "SSH: connection refused"): f"{_E2E}test_a_wrong_ssh_port",
    ("ssh", "SSH: this computer's key is not accepted"): f"{_HOSTS}test_errors_of_ssh_are_distinguished",
    ("docker", "Cannot connect to the Docker daemon"): f"{_E2E}test_docker_that_does_not_answer",
    ("docker", "permission denied"): "tests/infra/test_preflight.py::"
    "test_a_failing_host_is_named_with_reason_and_remedy",
    ("docker", "Docker 19.…"): f"{_HOSTS}test_an_old_docker_is_reported",
    ("gpu", "nvidia-smi: not found"): f"{_E2E}test_a_driver_that_does_not_answer",
    ("gpu", "GPU 2 is not there"): f"{_HOSTS}test_a_gpu_index_that_is_missing_is_reported",
    ("nvidia runtime", "Docker there has no NVIDIA runtime"): f"{_E2E}test_no_nvidia_runtime",
    ("gpu in a container", "any other"): f"{_HOSTS}test_a_container_that_no_driver_reaches_is_reported",
    ("base images", "by tags"): "tests/doctor/test_base_images.py::"
    "test_the_advice_is_the_key_with_the_digest_that_the_host_has",
    ("exposure", "… answers this computer without TLS"): f"{_TLS}"
    "test_a_public_node_that_answers_without_tls_or_key_is_a_warning",
    ("exposure", "… answers without TLS too"): f"{_TLS}"
    "test_a_node_that_also_answers_without_tls_is_a_warning_with_the_update_that_ends_it",
    ("exposure", "… answers a client without a certificate"): f"{_TLS}"
    "test_a_node_that_answers_anybody_on_its_tls_port_is_a_problem",
    ("node certificate", "the certificate expires on"): f"{_TLS}"
    "test_a_certificate_that_nobody_renews_is_a_warning_before_it_expires",
    ("node certificate", "it has no certificate"): f"{_TLS}test_a_service_without_a_certificate_is_a_problem",
    ("clock", "3600.0 s ahead of the fleet's median"): f"{_E2E}test_a_clock_off_by_an_hour",
    ("disk", "120 MiB free on /var"): f"{_E2E}test_a_full_disk",
    ("… container", "exited, exit code 137"): f"{_HOSTS}"
    "test_a_container_that_ran_out_of_memory_is_reported_with_its_last_log_lines",
    ("… container", "restarted 4 times"): f"{_HOSTS}"
    "test_a_container_that_keeps_restarting_is_reported_with_its_last_end",
    ("… process", "STOPPED"): f"{_EMBEDDED}test_a_killed_triton_is_found_with_the_command_that_starts_it",
    ("settings", "server.workers"): f"{_HOSTS}"
    "test_settings_that_the_service_cannot_read_are_reported_in_its_own_message",
    ("triton", "Triton is not ready"): _ADVICE,
    ("models", "model asr is not ready: …"): f"{_HOSTS}"
    "test_a_model_that_is_not_ready_is_reported_in_tritons_message",
    ("models", "model emotion is not ready: loading"): _ADVICE,
    ("models", "… unable to find backend library"): _ADVICE,
    ("models", "… has kind KIND_GPU"): _ADVICE,
    ("models", "… The engine plan file"): _ADVICE,
    ("models", "model asr is not ready: it is not in the model repository"): _ADVICE,
    ("models", "Triton at … says that it is not ready"): _ADVICE,
    ("model tensors", "model emotion: input 'audio_input' is not there"): f"{_HOSTS}"
    "test_a_renamed_input_is_reported_by_name",
    ("model tensors", "model emotion: input 'audio_input' has datatype"): _ADVICE,
    ("model tensors", "model synthesis: input 'audio_input' has shape"): _ADVICE,
    ("model tensors", "model x: needs the input y"): _ADVICE,
    ("model tensors", "model emotion: 6 labels for 7 logits"): _ADVICE,
    ("model folder", "see [the linter]"): f"{_E2E}test_a_deleted_configuration",
    ("edge-llm setup", "… has no llm node"): _ADVICE,
    ("edge-llm setup", "edge-llm error (code -2)"): _ADVICE,
    ("edge-llm setup", "task full"): _ADVICE,
    ("edge-llm setup", "the unit manager at … did not answer"): _ADVICE,
    ("service", "the service at … cannot be reached"): f"{_HOSTS}"
    "test_a_service_that_nothing_answers_for_is_reported",
    ("health", "HTTP 503"): f"{_HOSTS}test_the_message_of_the_nodes_health_is_reported_with_its_remedy",
    ("model kinds", "emotion is a rule"): f"{_HOSTS}"
    "test_a_node_that_serves_rules_is_a_warning_with_what_they_cannot_do",
    ("inference", "no word in a recording of speech"): f"{_RECORDING}"
    "test_an_answer_without_a_word_is_a_warning",
    ("inference", "more than twice as long"): f"{_RECORDING}"
    "test_an_answer_that_is_slow_twice_is_a_warning_with_its_time",
    ("gateway http", "cannot be reached: Connection refused"): f"{_GATEWAY}"
    "test_a_gateway_that_refuses_connections_is_a_problem",
    ("gateway grpc", "UNAVAILABLE"): f"{_GATEWAY}test_a_grpc_entrance_that_reaches_no_node_is_a_problem",
    ("upstream gpu-2", "from the gateway's host"): f"{_GATEWAY}"
    "test_a_healthy_node_that_the_gateway_does_not_reach_is_a_problem",
    ("virtual address", "no gateway has"): f"{_ADDRESS}test_exactly_one_gateway_has_the_address",
    ("virtual address", "split brain"): f"{_ADDRESS}test_exactly_one_gateway_has_the_address",
    ("virtual address http", "cannot be reached, and gateway@"): f"{_ADDRESS}"
    "test_an_address_that_the_network_does_not_pass_on_is_a_problem",
    ("upstreams avoided", "in the last 5 s nginx avoided"): f"{_GATEWAY}"
    "test_a_node_that_nginx_avoids_is_reported_by_name_and_in_nginx_message",
    ("certificate", "the certificate expires on"): f"{_GATEWAY}"
    "test_the_certificate_that_is_served_is_the_one_that_counts",
    ("certificate", "the certificate is for"): f"{_GATEWAY}"
    "test_the_certificate_that_is_served_is_the_one_that_counts",
    ("gateway inference", "HTTP 503: no node"): _ADVICE,
    ("gateway inference", "missing or wrong API key"): _ADVICE,
    ("", "model x: there is no config.pbtxt"): f"{_LINTER}test_a_missing_configuration_is_named",
    ("", "x/config.pbtxt:12: model x: config.pbtxt is malformed"): f"{_LINTER}"
    "test_a_malformed_configuration_is_named_by_its_line_in_protobufs_words",
    ("", "config.pbtxt names it 'a'"): f"{_LINTER}test_a_name_that_is_not_the_folders_is_named_by_its_line",
    ("", "there is no version folder"): f"{_LINTER}test_a_model_without_a_version_folder_is_named",
    ("", "version 1 has no model.plan"): f"{_LINTER}"
    "test_a_missing_backend_file_is_named_with_the_existing_ones",
    ("", "model.onnx of version 1 is empty"): f"{_LINTER}test_an_empty_backend_file_is_named",
    ("", "neither backend nor platform is set"): f"{_LINTER}"
    "test_a_configuration_that_ends_too_early_is_malformed",
    ("", "model x is not ready: it is not in the model repository"): f"{_LINTER}"
    "test_a_model_that_the_service_uses_and_that_is_missing_is_named_with_the_likeliest",
    ("", "the ensemble has no step"): f"{_LINTER}test_an_ensemble_needs_steps",
    ("", "needs Triton's backend tensorrt"): f"{_LINTER}"
    "test_a_backend_that_the_node_lacks_is_named_where_the_service_uses_the_model",
    ("", "a TensorRT plan runs on GPUs only"): f"{_LINTER}test_a_tensorrt_plan_on_the_cpu_is_a_fault",
    ("", "no labels; set …"): f"{_LINTER}test_a_label_too_few_is_reported_in_the_services_own_message",
    ("", "is decoupled"): f"{_LINTER}test_a_decoupled_model_is_named",
    ("", "the messages of model tensors"): f"{_LINTER}"
    "test_a_wrong_shape_is_reported_in_the_services_own_message",
}
