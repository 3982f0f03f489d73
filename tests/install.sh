#!/bin/sh
# Installs the Debian packages without which some tests of `make test` skip, on Debian or Ubuntu, as root: recorded
# prompts with their texts in five languages, music, a browser, and Prometheus. It starts no daemon.
set -eu
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "install these yourself: asterisk-core-sounds-{en,es,fr,it,ru}{,-wav} asterisk-moh-opsound-wav chromium" \
    "prometheus prometheus-alertmanager prometheus-node-exporter" >&2
  exit 1
fi
# The tests run their own Prometheus; policy-rc.d prevents the packages from starting one.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
  trap 'rm -f "$policy"' EXIT
fi
wanted=""
for package in asterisk-moh-opsound-wav chromium prometheus prometheus-alertmanager prometheus-node-exporter $(for language in en es fr it ru; do
  echo "asterisk-core-sounds-$language asterisk-core-sounds-$language-wav"
done); do
  dpkg-query --show "$package" >/dev/null 2>&1 || wanted="$wanted $package"
done
[ -n "$wanted" ] || exit 0
apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get install --yes -qq --no-install-recommends $wanted
