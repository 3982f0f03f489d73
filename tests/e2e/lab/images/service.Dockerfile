# Stands in for the public Python image where no registry can be reached: Python 3.11, and pip that finds every
# dependency of the service in a folder.
FROM base
COPY wheels /wheels
COPY pip.conf /etc/pip.conf
