# Stands beside the unit manager's double where the llm node does: it shows that /tmp is shared and stays, and it
# has the socket that a real llm node listens on.
ARG BASE_IMAGE=python:3.11-slim
FROM ${BASE_IMAGE}
CMD ["python", "-c", "import pathlib, signal, socket; pathlib.Path('/tmp/llm').mkdir(exist_ok=True); pathlib.Path('/tmp/rpc.llm').unlink(missing_ok=True); s = socket.socket(socket.AF_UNIX); s.bind('/tmp/rpc.llm'); s.listen(); signal.sigwait([signal.SIGTERM])"]
