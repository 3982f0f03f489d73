"""The gateway's files on its host, against what the last update wrote there."""

from infra import names
from infra.gateway.configuration import (
    APPLIED,
    FILE,
    REVISION,
    Configuration,
    ContainerConfiguration,
    applied_file,
    sha256,
)
from infra.update.questions import Question

# The arguments: the folder of configurations, the gateway's container, and the declared revision. The input:
# each file, and the digests that it may have; they count where an older release left no record. A folder
# without a gateway is that of a new one.
_CONTAINER = f"""
live="$1/{names.CURRENT}"
if [ ! -e "$live/{names.NGINX_CONF}" ]; then
  ! docker inspect --format . "$2" >/dev/null 2>&1 || echo "{names.NGINX_CONF} is gone"
  exit 0
fi
in_use=$(readlink -- "$live")
applied=$(sed -n 's/^{REVISION}//p' "$1/{APPLIED}" 2>/dev/null)
if [ "$in_use" != "${{applied:-$in_use}}" ] || [ -z "$in_use" ]; then
  echo "{names.CURRENT} leads to another configuration"
  exit 0
fi
if [ "$applied" ]; then
  sed -n 's/^{FILE}//p' "$1/{APPLIED}" | while read -r sum file; do printf '%s %s\\n' "$file" "$sum"; done
elif [ "$in_use" = "$3" ]; then
  cat
fi | while read -r file digests; do
  sum=$(sha256sum <"$live/$file" 2>/dev/null | cut -d ' ' -f 1)
  case " $digests " in *" $sum "*) ;; *) echo "$file is not as it was written" ;; esac
done
"""

# The arguments: the stack's file in the site, the file with what the last update applied, and the digest.
_EXISTING = f"""
[ -e "$2" ] || exit 0
[ -e "$1" ] || {{ echo "$1 is gone"; exit 0; }}
sum=$(sha256sum <"$1" | cut -d ' ' -f 1)
[ "$sum" = "$3" ] || grep -qxF -e "{REVISION}$sum" "$2" || echo "$1 is not as it was written"
"""


def question(configuration: Configuration) -> Question:
    """The question for the gateway's host; the answer has a line for each difference."""
    if not isinstance(configuration, ContainerConfiguration):
        arguments = (configuration.file, applied_file(configuration), sha256(configuration.servers))
        return Question(_EXISTING, arguments)
    digests = {name: sha256(text) for name, text in configuration.files.items()}
    # With an nginx that does not know all directives, the step puts this file in the other one's place.
    digests[names.NGINX_CONF] += f" {digests[names.OLDER_NGINX_CONF]}"
    files = "".join(f"{name} {known}\n" for name, known in digests.items())
    arguments = (configuration.folder, configuration.container, configuration.revision)
    return Question(_CONTAINER, arguments, files)
