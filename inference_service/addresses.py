"""Where a service listens and where it looks for its runtime, unless its settings say otherwise.

Constants only, and no imports: `infra.names` takes them from here, so that a node's containers are put where
its service looks for them. The service knows nothing of `infra`, so their home is on this side.
"""

from __future__ import annotations

HTTP_PORT, GRPC_PORT = 8800, 9800

# Host names on a node's own network. Triton's ports are consecutive: HTTP, gRPC, metrics.
TRITON_HOST, UNIT_MANAGER_HOST = "triton", "unit-manager"
TRITON_HTTP_PORT, TRITON_GRPC_PORT, TRITON_METRICS_PORT = 8000, 8001, 8002
UNIT_MANAGER_PORT = 19001

TRITON_URL = f"http://{TRITON_HOST}:{TRITON_HTTP_PORT}"
TRITON_GRPC = f"{TRITON_HOST}:{TRITON_GRPC_PORT}"
UNIT_MANAGER = f"{UNIT_MANAGER_HOST}:{UNIT_MANAGER_PORT}"

# The gateway in front of all nodes, which the client asks.
GATEWAY_HTTP_PORT, GATEWAY_GRPC_PORT = 8080, 9080
