# Stands in for the public Python image without a registry: Python 3.11, with a pip that finds every dependency of
# the service in a folder.
FROM base
COPY wheels /wheels
COPY pip.conf /etc/pip.conf
