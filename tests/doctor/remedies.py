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
_CLUSTER = "tests/e2e_kubernetes/test_doctor.py::"
_WORDS = "tests/kubernetes/test_doctor.py::"
_CONTAINERS = f"{_CLUSTER}test_containers_that_do_not_run_are_told_in_the_kubelets_words"
_SCHEDULER = f"{_WORDS}test_the_schedulers_words_have_their_remedy"
_DELETED = f"{_CLUSTER}test_a_deleted_secret_and_a_deleted_service_are_named"
_KUBECTL = f"{_WORDS}test_an_error_of_kubectl_has_its_remedy"
_VERSIONS = f"{_WORDS}test_old_versions_of_kubectl_and_of_the_cluster_are_problems"
_PULUMI = (
    "tests/e2e_kubernetes/test_pulumi.py::test_a_stack_comes_up_stays_as_it_is_changes_is_repaired_and_goes"
)
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
    ("namespace", "namespaces"): f"{_CLUSTER}test_a_missing_namespace_is_made_by_the_remedy",
    ("permissions", "… cannot list"): f"{_CLUSTER}test_who_may_see_little_is_told_what_to_ask_for",
    (
        "machines",
        "gpu-1 takes no new pods",
    ): f"{_CLUSTER}test_a_cordoned_machine_takes_pods_after_the_remedy",
    ("objects", "Service prod-l4 is not"): _PULUMI,
    ("objects", "Deployment prod-l4: kubectl changed"): _PULUMI,
    (
        "refused pods",
        'pods "…" is forbidden: exceeded quota',
    ): f"{_CLUSTER}test_a_quota_that_refuses_pods_is_named_and_raised",
    (
        "refused pods",
        'pods "…" is forbidden: violates PodSecurity',
    ): f"{_CLUSTER}test_pods_that_pod_security_refuses_come_after_the_remedy",
    (
        "refused pods",
        'pods "…" is forbidden: error looking up',
    ): f"{_CLUSTER}test_a_missing_service_account_is_made_by_the_remedy",
    (
        "needed objects",
        "ServiceAccount reader",
    ): f"{_CLUSTER}test_a_missing_service_account_is_made_by_the_remedy",
    (
        "needed objects",
        "Secret ai-tls",
    ): f"{_CLUSTER}test_a_missing_certificate_and_an_expired_one_are_replaced_by_the_remedies",
    (
        "certificate",
        'secrets "ai-tls" not found',
    ): f"{_CLUSTER}test_a_missing_certificate_and_an_expired_one_are_replaced_by_the_remedies",
    (
        "claims",
        'persistentvolumeclaim "models"',
    ): f"{_CLUSTER}test_a_missing_claim_is_made_by_the_remedy_and_then_lacks_a_volume",
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
    ("kubectl", "kubectl is not on PATH"): f"{_WORDS}"
    "test_without_kubectl_there_is_one_finding_and_the_rest_is_skipped",
    ("kubectl", "kubectl v1.19.0"): _VERSIONS,
    ("api server", "error: context"): f"{_CLUSTER}"
    "test_a_cluster_that_cannot_be_asked_is_one_finding_in_kubectls_words",
    ("api server", "The connection to the server"): _KUBECTL,
    ("api server", "error: You must be logged in"): _KUBECTL,
    ("api server", "Kubernetes v1.29.1"): _VERSIONS,
    ("namespace", "the namespace speech is being"): f"{_WORDS}"
    "test_a_namespace_that_ends_or_cannot_be_seen_is_told",
    ("machines", "gpu-1 is not ready"): f"{_WORDS}"
    "test_a_machine_that_is_not_ready_is_told_in_the_words_of_the_cluster",
    ("machines", "the cluster has no machine"): f"{_WORDS}test_a_cluster_without_machines_is_told",
    ("gpu resource", "no machine advertises nvidia.com/gpu; the machines have …"): f"{_CLUSTER}"
    "test_a_wrong_gpu_resource_is_told_with_those_that_exist",
    ("gpu resource", "no machine advertises nvidia.com/gpu; the machines have no"): f"{_WORDS}"
    "test_machines_without_a_device_plugin_are_told_from_those_whose_plugin_stopped",
    ("gpu resource", "gpu-1: its nvidia.com/gpu"): f"{_WORDS}"
    "test_machines_without_a_device_plugin_are_told_from_those_whose_plugin_stopped",
    ("gpus", "the stack's pods ask for"): f"{_CLUSTER}test_gpus_that_are_all_in_use_are_counted",
    ("gpus", "l4: each pod asks for"): f"{_WORDS}"
    "test_gpus_of_one_pod_that_fit_no_machine_and_updates_without_a_free_gpu_are_told",
    ("gpus", "…; an update of l4"): f"{_WORDS}"
    "test_gpus_of_one_pod_that_fit_no_machine_and_updates_without_a_free_gpu_are_told",
    ("objects", "none of the stack's"): f"{_CLUSTER}test_a_stack_that_is_not_deployed_is_one_finding",
    ("objects", "Deployment prod-l4: the image of"): f"{_WORDS}"
    "test_a_stack_file_that_is_newer_than_the_cluster_is_told",
    ("monitors", "the cluster does not know"): f"{_CLUSTER}test_missing_extensions_are_named",
    ("deployment", "the Deployment prod-l4"): f"{_WORDS}test_a_deployment_says_what_is_wrong_with_it",
    ("deployment", "1 of 2 pods"): f"{_WORDS}test_a_deployment_says_what_is_wrong_with_it",
    ("deployment", "…; the rollout of"): f"{_WORDS}test_a_deployment_says_what_is_wrong_with_it",
    ("deployment", "prod-l4 has the pods of before"): f"{_WORDS}"
    "test_pods_that_an_update_put_back_or_took_from_traffic_are_told",
    ("endpoints", "an update found them bad"): f"{_WORDS}"
    "test_pods_that_an_update_put_back_or_took_from_traffic_are_told",
    ("machine", "0/3 nodes are available: 3 Insufficient"): f"{_CLUSTER}"
    "test_gpus_that_are_all_in_use_are_counted",
    ("machine", "0/3 nodes are available: … node(s) had untolerated"): _SCHEDULER,
    ("machine", "0/3 nodes are available: … didn't match"): f"{_CLUSTER}"
    "test_a_selector_that_no_machine_has_is_told",
    ("machine", "0/3 nodes are available: … were unschedulable"): f"{_CLUSTER}"
    "test_a_cordoned_machine_takes_pods_after_the_remedy",
    ("machine", "prod-l4-… is on gpu-1"): f"{_WORDS}test_pods_on_a_machine_that_does_not_report_are_told",
    ("needed objects", "Secret prod-l4-settings"): _DELETED,
    ("needed objects", "RuntimeClass nvidia"): f"{_WORDS}"
    "test_a_runtime_class_that_is_missing_is_told_with_those_that_exist",
    ("claims", "the claim models is Pending"): f"{_CLUSTER}"
    "test_a_missing_claim_is_made_by_the_remedy_and_then_lacks_a_volume",
    ("claims", "the claim models allows"): f"{_CLUSTER}test_a_claim_of_one_machine_is_a_warning",
    ("images", "triton (2 pods)"): _CONTAINERS,
    ("containers", "… CrashLoopBackOff, restarted 4"): _CONTAINERS,
    ("containers", "… CrashLoopBackOff, restarted 3"): f"{_WORDS}"
    "test_the_last_lines_of_a_container_that_ended_are_shown",
    ("containers", "… CreateContainerConfigError"): _CONTAINERS,
    ("probes", "… Startup probe failed"): f"{_CLUSTER}"
    "test_a_startup_probe_that_fails_is_told_until_it_passes",
    ("models", "prod-l4-…: Triton is not ready"): f"{_CLUSTER}"
    "test_a_pod_that_is_not_ready_tells_of_its_models_itself",
    ("models", "prod-l4-…: not allowed"): f"{_WORDS}"
    "test_pods_tell_of_their_models_and_who_may_not_ask_is_told_how",
    ("endpoints", "the Service prod-l4"): _DELETED,
    ("endpoints", "ready, and not behind"): f"{_CLUSTER}"
    "test_a_service_that_selects_other_pods_leaves_ready_pods_out",
    ("disruption budget", "no pod may ever"): f"{_WORDS}test_a_budget_that_lets_no_pod_go_is_a_warning",
    ("autoscaler", "FailedGetPodsMetric"): f"{_CLUSTER}test_an_autoscaler_without_metrics_says_so",
    ("autoscaler", "the cluster does not know"): f"{_CLUSTER}test_missing_extensions_are_named",
    ("address", "the Service prod-gateway"): f"{_CLUSTER}"
    "test_a_load_balancer_without_an_address_is_a_problem",
    ("certificate", "cert-manager has not"): f"{_WORDS}test_what_cert_manager_says_is_told",
}
