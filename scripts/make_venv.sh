#!/bin/sh
# Makes the virtual environment DIR (default .venv) with the pinned development install, and does nothing when it is
# already there and neither the pins nor the place changed. PYTHON=/path/to/python chooses the interpreter.
#   sh scripts/make_venv.sh [DIR]
set -eu

cd "$(dirname "$0")/.."
venv=${1:-.venv}
stamp="$venv/installed.txt"
wanted="$(pwd)
$(cksum pyproject.toml constraints.txt scripts/make_venv.sh)"

if [ -x "$venv/bin/python" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
    exit 0
fi

supported() {
    "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

find_python() {
    for candidate in python3 python3.13 python3.12 python3.11 python3.10 python; do
        if supported "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    echo "error: python: expected Python 3.10 to 3.13 on the PATH, found none; install one or name one: make PYTHON=/path/to/python3" >&2
    exit 2
}

python=${PYTHON:-$(find_python)}

# An environment left by an interrupted run, by another interpreter or at another place is made anew.
rm -rf "$venv"
echo "making $venv with $("$python" --version)"
if ! "$python" -m venv "$venv" >/dev/null 2>&1; then
    # Debian's python3 comes without ensurepip: a pip outside the environment can fill it too.
    rm -rf "$venv"
    "$python" -m venv --without-pip "$venv"
    "$python" -m pip --python "$venv/bin/python" install --quiet pip -c constraints.txt || {
        echo "error: $python: expected the module ensurepip or pip, found neither; install python3-venv (Debian, Ubuntu)" >&2
        rm -rf "$venv"
        exit 2
    }
fi
# setuptools is pinned like everything else, so the build is not isolated.
"$venv/bin/python" -m pip install --quiet -c constraints.txt pip setuptools
"$venv/bin/python" -m pip install --quiet --no-build-isolation -c constraints.txt -e '.[dev]'
printf '%s\n' "$wanted" >"$stamp"
