"""The default addresses of a service and of its runtime. Constants only, and no imports.

`infra` imports them from here, so that a node's containers have the addresses that its service expects.
"""

HTTP_PORT, GRPC_PORT = 8800, 9800
# The same with mutual TLS, where a stack has it.
HTTP_TLS_PORT, GRPC_TLS_PORT = 8843, 9843

# Host names on a node's own network. Triton's ports are consecutive: HTTP, gRPC, metrics.
TRITON_HOST, UNIT_MANAGER_HOST = "triton", "unit-manager"
TRITON_HTTP_PORT, TRITON_GRPC_PORT, TRITON_METRICS_PORT = 8000, 8001, 8002
UNIT_MANAGER_PORT = 19001

TRITON_URL = f"http://{TRITON_HOST}:{TRITON_HTTP_PORT}"
TRITON_GRPC = f"{TRITON_HOST}:{TRITON_GRPC_PORT}"
UNIT_MANAGER = f"{UNIT_MANAGER_HOST}:{UNIT_MANAGER_PORT}"

# The gateway in front of all nodes; the client's default.
GATEWAY_HTTP_PORT, GATEWAY_GRPC_PORT = 8080, 9080
