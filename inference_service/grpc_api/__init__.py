"""The node's gRPC API: `ai_service.proto`, the code generated from it, and the server."""
