"""The routes under /v1: OpenAI's audio API."""
