#!/bin/sh
# Create a virtual environment, or bring it up to date:
#
#     scripts/environment.sh FOLDER CONTENT LOCK [PROJECT]
#
# FOLDER is the environment, CONTENT says in words what pip installs, how much, and how long that takes, LOCK is the file
# with the versions and hashes of the packages. With PROJECT (pyproject.toml) the project itself is installed too, in editable mode. A
# change of LOCK or PROJECT makes the environment out of date. $PYTHON lists the interpreters to try.
#
# One set-up runs at a time in a checkout. FOLDER/.installed is touched when all is done; FOLDER/.installing
# exists while pip works, so an environment whose set-up was interrupted is recognised and created anew.
set -eu

folder=$1 content=$2 lock=$3 project=${4:-}

# The lock is on the checkout's folder itself: no lock file to leave behind or to ignore.
exec 9<.
if ! flock --nonblock 9; then
    echo "another make command is setting up an environment here; waiting for it" >&2
    flock 9
fi

up_to_date() {
    [ -x "$folder/bin/python" ] && [ -e "$folder/.installed" ] || return 1
    for file in "$lock" $project; do
        # shellcheck disable=SC3013 # dash and busybox have -nt
        [ "$file" -nt "$folder/.installed" ] && return 1
    done
    return 0
}

# The make command that was waited for has done it.
if up_to_date; then exit 0; fi

if [ -e "$folder/.installing" ]; then
    echo "the last set-up of $folder was interrupted: starting again"
    rm -rf "$folder"
elif [ -d "$folder" ] && ! "$folder/bin/python" -m pip --version >/dev/null 2>&1; then
    echo "$folder has no working pip: starting again"
    rm -rf "$folder"
fi

if [ -d "$folder" ]; then
    echo "bringing $folder up to date: $content"
else
    for python in $PYTHON ""; do
        "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && break
    done
    if [ -z "$python" ]; then
        echo "Python 3.11, 3.12 or 3.13 is needed; none of these is: $PYTHON" >&2
        exit 1
    fi
    echo "setting up $folder with $python: $content"
    mkdir "$folder"
    touch "$folder/.installing"
    if ! "$python" -m venv "$folder"; then
        rm -rf "$folder"
        echo "on Debian and Ubuntu: apt-get install python3-venv" >&2
        exit 1
    fi
fi

touch "$folder/.installing"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
if [ -t 1 ]; then
    # One line that changes. pip's errors go to standard error; a shell's pipe does not tell its status.
    count=$(grep -c '^[A-Za-z0-9][^ ]*==' "$lock") || count=1
    {
        "$folder/bin/python" -m pip install --progress-bar off --require-hashes -r "$lock" ||
            touch "$folder/.failed"
    } | "$folder/bin/python" "$(dirname "$0")/pip_progress.py" "$count"
    if [ -e "$folder/.failed" ]; then
        rm "$folder/.failed"
        exit 1
    fi
else
    "$folder/bin/python" -m pip install --quiet --require-hashes -r "$lock"
fi
# The build backend is in the lock too: an isolated build would download one without a hash.
if [ -n "$project" ]; then
    "$folder/bin/python" -m pip install --quiet --no-deps --no-build-isolation --editable "$(dirname "$project")"
fi
rm "$folder/.installing"
touch "$folder/.installed"
