"""What a host remembers of what an update wrote there: which copies are in use, and each file of a copy.

Weights have gigabytes, and every preview looks. So a host compares the size and the times of each file, and
the content only of files whose times differ.
"""

#: The folder in a node's folder of models. For each copy: `<copy>.files` with size, times and path of each
#: file, and `<copy>.sha256` with the digests. `<copy>.again` marks one that Triton must load again.
RECORDS = ".records"
#: In that folder: the links of the last activation, a line each: the model, a blank, and what it leads to.
IN_USE = "in-use"
#: In that folder: the names of the copies that the last activation kept, a line each.
KEPT = "kept"

#: A file with other times is read only up to this size, for all of a copy; a larger one counts as changed.
READ_BYTES = 128 << 20

#: A shell command: prints the size, the times of the last changes of content and inode, and the path of each
#: file below the working directory. No program can set back the time of the inode.
FILES = r"find . -type f -printf '%s %T@ %C@ %P\n' | LC_ALL=C sort"

#: A shell function: prints the paths of files that are not as recorded. $1: the record, an absolute path
#: without its ending; $2: the folder of the copy. A copy of an older release has no record and counts as
#: unchanged.
CHANGED = f"""
changed() {{
  [ ! -f "$1.files" ] || (
    cd -- "$2" || exit
    left={READ_BYTES}
    {FILES} | LC_ALL=C comm -3 - "$1.files" | tr -d '\\t' | cut -d ' ' -f 4- | LC_ALL=C sort -u |
    while IFS= read -r path; do
      size=$(stat -c %s -- "$path" 2>/dev/null) || {{ printf '%s\\n' "$path"; continue; }}
      left=$((left - size))
      [ "$left" -ge 0 ] &&
        grep -qxF -e "$(sha256sum <"$path" | cut -d ' ' -f 1)  $path" "$1.sha256" || printf '%s\\n' "$path"
    done
  )
}}
"""
