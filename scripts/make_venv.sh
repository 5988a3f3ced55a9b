#!/bin/sh
# Makes the virtual environment DIR (default .venv) with the pinned development install. Does nothing where it is there
# and up to date; where only the pins changed, it is updated. PYTHON=/path/to/python chooses the interpreter.
#   sh scripts/make_venv.sh [DIR]
set -eu

cd "$(dirname "$0")/.."
venv=${1:-.venv}
stamp="$venv/installed.txt"
place=$(pwd)
pins=$(cksum pyproject.toml constraints.txt scripts/make_venv.sh)

version_of() {
    "$1" -c 'import sys; print(sys.version)' 2>/dev/null
}

# Whole, at this place (scripts in it name their place), and of the interpreter that was asked for, if one was.
usable() {
    [ -f "$stamp" ] && [ "$(head -n 1 "$stamp")" = "$place" ] && version_of "$venv/bin/python" >/dev/null &&
        { [ -z "${PYTHON:-}" ] || [ "$(version_of "$PYTHON")" = "$(version_of "$venv/bin/python")" ]; }
}

find_python() {
    for candidate in python3 python3.13 python3.12 python3.11 python3.10 python; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    echo "error: python: expected Python 3.10 to 3.13 on the PATH, found none; install one or name one: make PYTHON=/path/to/python3" >&2
    exit 2
}

make_empty() {
    python=${PYTHON:-$(find_python)}
    if ! version_of "$python" >/dev/null; then
        echo "error: PYTHON=$python: expected a Python 3.10 to 3.13, got nothing that runs; check the path" >&2
        exit 2
    fi
    rm -rf "$venv"
    echo "making $venv with $("$python" --version); the packages are some 2 GB, this takes minutes"
    if ! "$python" -m venv "$venv" >/dev/null 2>&1; then
        # Debian's python3 comes without ensurepip: a pip outside the environment can fill it too.
        rm -rf "$venv"
        "$python" -m venv --without-pip "$venv"
        if ! "$python" -m pip --python "$venv/bin/python" install --quiet -c constraints.txt pip; then
            rm -rf "$venv"
            echo "error: $python: expected the module ensurepip or pip, found neither; install python3-venv (Debian, Ubuntu)" >&2
            exit 2
        fi
    fi
}

if usable; then
    [ "$(tail -n +2 "$stamp")" = "$pins" ] && exit 0
    echo "updating $venv to the changed pins"
else
    make_empty
fi
rm -f "$stamp"
# setuptools is pinned like everything else, so the build is not isolated; its remark on editable installs is dropped.
# --no-compile: Python compiles what is used when it is used, a small part of all.
"$venv/bin/python" -m pip install --quiet --no-compile -c constraints.txt pip setuptools
PYTHONWARNINGS=ignore "$venv/bin/python" -m pip install --quiet --no-compile --no-build-isolation -c constraints.txt -e '.[dev]'
printf '%s\n%s\n' "$place" "$pins" >"$stamp"
