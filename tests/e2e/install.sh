#!/bin/sh
# Installs the Debian packages that `make e2e` needs, on Debian or Ubuntu, as root. It starts no daemon: the tests run
# their own. You install the Pulumi CLI yourself (https://www.pulumi.com/docs/install/).
set -eu
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "install these yourself: docker.io openssh-server debootstrap iproute2 util-linux tini" >&2
  exit 1
fi
# A Docker that already runs keeps running; policy-rc.d prevents a newly installed one from starting.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
  trap 'rm -f "$policy"' EXIT
fi
wanted=""
command -v dockerd >/dev/null || wanted="$wanted docker.io"
for pair in sshd:openssh-server debootstrap:debootstrap ip:iproute2 tini:tini nsenter:util-linux; do
  PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null || wanted="$wanted ${pair#*:}"
done
[ -n "$wanted" ] || exit 0
apt-get update
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $wanted
