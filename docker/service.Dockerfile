# The inference service. BASE_IMAGE is any image with Python 3.11 to 3.13 and pip.
ARG BASE_IMAGE=python:3.11-slim-bookworm
FROM ${BASE_IMAGE}
WORKDIR /app
# service-otel: with the extra otel, which traces need.
ARG REQUIREMENTS=service
COPY requirements/${REQUIREMENTS}.txt ./requirements.txt
# The dependencies in a layer of their own: a changed service does not install them again.
RUN python -m pip install --quiet --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.txt
COPY inference_service ./inference_service
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 1000:1000
EXPOSE 8800 9800
CMD ["python", "-m", "inference_service"]
