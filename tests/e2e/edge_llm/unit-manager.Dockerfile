# The unit manager's protocol double as a container image: it speaks the protocol and runs no model.
ARG BASE_IMAGE=python:3.11-slim
FROM ${BASE_IMAGE}
COPY doubles/unit_manager.py /unit_manager.py
EXPOSE 19001
CMD ["python", "/unit_manager.py", "--host", "0.0.0.0", "--port", "19001"]
