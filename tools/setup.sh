#!/bin/sh
# Set up a checkout: the system libraries FFCV is built against, a virtual environment, distcond in it (editable).
# usage: tools/setup.sh PYTHON VENV      (make setup runs it, and only when pyproject.toml or constraints.txt changed)
#
# VENV/.unfinished exists from the first step to the last. An environment that still has it was interrupted, may contain
# half-copied packages, and is created again. make checks VENV/.installed.
set -eu
python=$1
venv=$2

trap 'exit 130' INT TERM # otherwise an interrupted step would count as failed, and the next one would run

say() { printf 'setup: %s\n' "$*" >&2; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# Debian has separate packages for venv and for the C headers of its Python.
has_venv() { "$python" -c 'import ensurepip, venv' 2>/dev/null; }
has_headers() {
    "$python" -c 'import os, sysconfig; os.stat(os.path.join(sysconfig.get_path("include"), "Python.h"))' 2>/dev/null
}
has_ffcv_libraries() {
    pkg-config --exists opencv4 libturbojpeg 2>/dev/null && command -v "${CXX:-c++}" >/dev/null && has_headers
}
can_apt() { command -v apt-get >/dev/null && as_root true 2>/dev/null; }

install_system_packages() {
    name=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    set -- pkg-config libturbojpeg0-dev libopencv-dev build-essential libgl1 libglib2.0-0
    has_venv || set -- "$@" "$name-venv"
    has_headers || set -- "$@" "$name-dev"
    say "installing with apt-get: $*"
    as_root apt-get update -qq </dev/null >/dev/null &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" \
            </dev/null >/dev/null
}

check_python() {
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && return
    say "distcond needs Python 3.11 or newer and '$python' is $("$python" --version 2>&1 || true);" \
        "use another one: make setup PYTHON=/path/to/python3.12"
    exit 1
}

check_system() {
    if has_ffcv_libraries && has_venv; then return; fi
    if can_apt && install_system_packages; then return; fi
    if ! has_venv; then
        say "$python cannot make virtual environments: install its venv package (Debian: python3-venv) or use" \
            "another Python: make setup PYTHON=/path/to/python3.12"
        exit 1
    fi
    say "FFCV needs a C++ compiler, Python's headers, and OpenCV and libjpeg-turbo with pkg-config files, which cannot" \
        "be installed without root. Use one of these, then 'make -B setup': conda install -c conda-forge compilers" \
        "pkg-config opencv libjpeg-turbo; 'module load' of your cluster's OpenCV; a container with Debian's" \
        "libopencv-dev and libturbojpeg0-dev. Continuing without FFCV: images are kept in memory" \
        "(data.loader=memory)."
}

make_environment() {
    if [ -e "$venv/.unfinished" ]; then
        say "an earlier set-up was interrupted: creating the environment again"
        rm -rf "$venv"
    fi
    mkdir -p "$venv"
    rm -f "$venv/.installed"
    touch "$venv/.unfinished"
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
}

# uv takes seconds where pip takes minutes. It ignores pip's settings, so pass on a site's mirror.
fetch_uv() {
    mirror=${PIP_INDEX_URL:-$("$venv/bin/python" -m pip config get global.index-url 2>/dev/null || true)}
    if [ -n "$mirror" ]; then export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$mirror}"; fi
    [ -x "$venv/bin/uv" ] ||
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv ||
        say "uv cannot be installed: using pip, which takes longer"
}

# A failed step (for example without network) leaves a usable environment, in which the next try continues.
give_up() {
    rm -f "$venv/.unfinished"
    say "the packages could not be installed; fix the cause and run make again"
    exit 1
}

install() {
    set -- --constraint constraints.txt "$@"
    [ -t 2 ] || set -- --quiet "$@" # progress only on a terminal
    if [ -x "$venv/bin/uv" ]; then
        "$venv/bin/uv" pip install --python "$venv/bin/python" "$@" && return
        say "uv failed: trying pip"
    fi
    "$venv/bin/python" -m pip install --disable-pip-version-check "$@"
}

install_ffcv() {
    has_ffcv_libraries || return 0
    log=$venv/ffcv.log
    if install --editable '.[ffcv]' >"$log" 2>&1 && "$venv/bin/python" -c 'import ffcv' >>"$log" 2>&1; then
        return 0
    fi
    say "FFCV cannot be used here (see $log); continuing without it: images are kept in memory (data.loader=memory)"
}

check_python
check_system
make_environment
fetch_uv
install --editable '.[attacks,dev,docs,export,html,mlflow,serve,tensorboard,tune,wandb]' || give_up
install_ffcv
rm "$venv/.unfinished"
touch "$venv/.installed"
