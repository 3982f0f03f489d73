"""The shell scripts with which `models.py` changes a host, as constants.

Folders, models and versions are their arguments, so a name is never run.
"""

from pathlib import PurePosixPath

from inference_service.addresses import TRITON_URL
from infra.models.records import CHANGED, FILES, IN_USE, KEPT, RECORDS
from infra.names import ENGINE_SECONDS, MODELS_MOUNT, REPOSITORY, STORE

_STORE_MOUNT = PurePosixPath(MODELS_MOUNT).parent / STORE
#: In an archive: the digests of its files.
MANIFEST = ".sha256"
# Printed by a host that does not have the copy yet.
SEND = b"send"

# The arguments: the root, the name of the copy, and its KiB. What is cut off, by a full disk too, goes
# away at once.
UNPACK = f"""
{CHANGED}
set -e
mkdir -p -- "$1/{STORE}" "$1/{REPOSITORY}" "$1/{RECORDS}"
cd -- "$1/{STORE}"
partial="$PWD/.partial-$2"
record="$PWD/../{RECORDS}/$2"
if [ -d "$2" ] && [ -z "$(changed "$record" "$2")" ]; then exit 0; fi
rm -rf -- "$partial" "$partial".*
free=$(df -Pk . | awk 'NR == 2 {{ print $4 }}')
[ "$free" -ge "$3" ] || {{ echo "$PWD has $free KiB free, and the copy needs $3 KiB"; exit 1; }}
trap 'rm -rf -- "$partial" "$partial".*' EXIT
echo {SEND.decode()}
mkdir -- "$partial"
tar -xmf - --no-same-owner -C "$partial"
cd -- "$partial"
sha256sum --quiet --check {MANIFEST}
mv -- {MANIFEST} "$partial.sha256"
chmod -R u+rwX,go+rX-w .
cd ..
# Triton has loaded the copy that was changed. Its mark comes first, in case that this is interrupted.
if [ -f "$record.files" ] || [ -d "$2" ]; then : >"$record.again"; fi
[ ! -d "$2" ] || mv -T -- "$2" "$partial.before"
mv -T -- "$partial" "$2"
mv -f -- "$partial.sha256" "$record.sha256"
(cd -- "$2" && {FILES}) >"$record.files"
"""

# The argument: the root. The output: for each link the model, a slash, and what it leads to.
LINKS = f"""
mkdir -p -- "$1/{REPOSITORY}" && cd -- "$1/{REPOSITORY}" || exit
for model in *; do
    if [ -L "$model" ]; then printf '%s/%s\\n' "$model" "$(readlink -- "$model")"; fi
done
"""

# The argument: the root. Prints the copies that Triton must load again.
AGAIN = f"""
cd -- "$1/{RECORDS}" 2>/dev/null || exit 0
for mark in *.again; do if [ -e "$mark" ]; then printf '%s\\n' "${{mark%.again}}"; fi; done
"""

# The arguments: the root, and for each link the model and what it leads to from now on. Triton loads a model
# again only if a time in its folder is later than before, and an earlier version has earlier times.
SWITCH = f"""
set -e
cd -- "$1/{REPOSITORY}"
shift
while [ $# -gt 0 ]; do
    ln -sfn -- "$2" ".new-$1"
    [ -L "$1" ] || rm -rf -- "$1"
    mv -T -- ".new-$1" "$1"
    touch -- "$1"
    shift 2
done
"""

# The arguments: the root, and the models whose links are removed.
UNLINK = f"""
cd -- "$1/{REPOSITORY}" && shift && rm -f -- "$@"
"""

# The arguments: the root, and the copies that stay.
CLEAN = f"""
mkdir -p -- "$1/{RECORDS}" && cd -- "$1/{STORE}" || exit
shift
printf '%s\\n' "$@" >"../{RECORDS}/{KEPT}"
rm -rf .partial-*
for copy in *; do
    for kept in "$@"; do
        [ "$copy" != "$kept" ] || continue 2
    done
    rm -rf -- "$copy" "../{RECORDS}/$copy".*
done
"""

# The arguments: the root, and for each model its name and what its link leads to. All of them are loaded.
RECORD = f"""
set -e
mkdir -p -- "$1/{RECORDS}" && cd -- "$1/{RECORDS}"
shift
printf '%s %s\\n' "$@" >{IN_USE}.new
mv -f -- {IN_USE}.new {IN_USE}
rm -f -- *.again
"""

# The arguments: the root, and Triton's container. Prints the inodes of the folders here, then those in the
# container: where somebody removed the folders, it keeps the former ones.
FOLDERS = f"""
stat -c %i -- "$1/{REPOSITORY}" "$1/{STORE}"
docker exec "$2" stat -c %i -- {MODELS_MOUNT} {_STORE_MOUNT} 2>/dev/null || :
"""

# The arguments: the service's container, the Python code, the action, and the model.
EXEC = 'docker exec "$1" python -c "$2" "$3" "$4"'

# Runs in the service's container, which has Python and is on Triton's network.
CALL = f"""
import json, sys, urllib.error, urllib.parse, urllib.request
action, model = sys.argv[1:]
url = f"{TRITON_URL}/v2/repository/models/{{urllib.parse.quote(model, safe='')}}/{{action}}"
try:
    request = urllib.request.Request(url, data=b"{{}}", method="POST")
    urllib.request.urlopen(request, timeout={ENGINE_SECONDS}).read()
except urllib.error.HTTPError as error:
    sys.exit(f"{{model}}: {{json.loads(error.read()).get('error')}}")
except OSError as error:
    sys.exit(f"Triton does not answer: {{error}}")
"""
