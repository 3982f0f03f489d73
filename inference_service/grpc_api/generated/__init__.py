"""Generated from ai_service.proto by `python -m inference_service.grpc_api.generate`."""
