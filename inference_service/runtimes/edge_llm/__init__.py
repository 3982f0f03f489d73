"""Inference through Edge-LLM: units behind a unit manager, over its line protocol."""

from inference_service.runtimes.edge_llm.runtime import EdgeLlmRuntime
