# Stands in for the llm node beside the unit manager's double. It shows that both containers share /tmp and that /tmp
# survives, and it opens the socket that a real llm node listens on.
ARG BASE_IMAGE=python:3.11-slim
FROM ${BASE_IMAGE}
CMD ["python", "-c", "import pathlib, signal, socket; pathlib.Path('/tmp/llm').mkdir(exist_ok=True); pathlib.Path('/tmp/rpc.llm').unlink(missing_ok=True); s = socket.socket(socket.AF_UNIX); s.bind('/tmp/rpc.llm'); s.listen(); signal.sigwait([signal.SIGTERM])"]
