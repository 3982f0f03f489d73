# keepalived, for the virtual address of several gateways. BASE_IMAGE is Debian 12, or an image that has keepalived,
# curl and ip already.
ARG BASE_IMAGE=debian:12-slim
FROM ${BASE_IMAGE}
RUN if ! { command -v keepalived && command -v curl && command -v ip; } >/dev/null; then \
        apt-get update \
        && apt-get install --yes --no-install-recommends 'keepalived=1:2.2.7-*' curl iproute2 \
        && rm -rf /var/lib/apt/lists/*; fi
