# The inference service. BASE_IMAGE is any image with Python 3.11 to 3.13 and pip.
ARG BASE_IMAGE=python:3.11-slim-bookworm
FROM ${BASE_IMAGE}
WORKDIR /app
COPY pyproject.toml ./
# The dependencies in a layer of their own: a changed service does not install them again.
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; print('\n'.join([*p['dependencies'], *p['optional-dependencies']['service']]))" > requirements.txt \
    && python -m pip install --no-cache-dir --disable-pip-version-check -r requirements.txt
COPY inference_service ./inference_service
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 1000:1000
EXPOSE 8800 9800
CMD ["python", "-m", "inference_service"]
