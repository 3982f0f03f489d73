# Stands in for NVIDIA's Triton image: the same server under the same path, Triton's CPU build from its wheel.
FROM base
COPY wheels /wheels
COPY pip.conf /etc/pip.conf
RUN python3 -m pip install --no-cache-dir --no-deps --target /tmp/unpacked nvidia-pytriton \
    && mkdir -p /opt/tritonserver/backends \
    && cd /tmp/unpacked/pytriton/tritonserver \
    && cp -a bin caches python_backend_stubs /opt/tritonserver/ \
    && cp -a backends/python /opt/tritonserver/backends/ \
    && cp -a python_backend_stubs/3.11/triton_python_backend_stub /opt/tritonserver/backends/python/ \
    && cp -a /tmp/unpacked/nvidia_pytriton.libs /opt/tritonserver/lib \
    && mv /opt/tritonserver/bin/tritonserver /opt/tritonserver/bin/tritonserver.real \
    && rm -rf /tmp/unpacked
COPY tritonserver /opt/tritonserver/bin/tritonserver
ENV PATH=/opt/tritonserver/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
