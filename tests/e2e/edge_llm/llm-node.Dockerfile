# Stands beside the unit manager's double where the llm node does: it shows that /tmp is shared and stays.
ARG BASE_IMAGE=python:3.11-slim
FROM ${BASE_IMAGE}
CMD ["python", "-c", "import pathlib, signal; pathlib.Path('/tmp/llm').mkdir(exist_ok=True); signal.sigwait([signal.SIGTERM])"]
