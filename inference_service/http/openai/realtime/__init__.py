"""OpenAI's real-time API for transcription: the WebSocket /v1/realtime."""
