#!/bin/sh
# Build stage of both images: a virtual environment with all that distcond needs, FFCV compiled.
# usage: packages.sh VENV TORCH EXTRA...      (in a directory with pyproject.toml and constraints.txt)
#
# Leaves packages.txt: the system packages that the compiled FFCV needs when it runs.
set -eu
venv=$1
torch=$2
shift 2

apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    g++ pkg-config libturbojpeg0-dev libopencv-dev >/dev/null
apt-get clean

export PIP_NO_CACHE_DIR=1
python3 -m venv "$venv"
"$venv/bin/python" - "$@" <<'END' >requirements.txt
import sys, tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
extras = [project["optional-dependencies"][name] for name in sys.argv[1:]]
print(*project["dependencies"], *sum(extras, []), sep="\n")
END

# Which torch it is, the image decides, and with it its companions.
grep -Ev '^(torch|triton|cuda-|nvidia-)' constraints.txt >constraints-but-torch.txt

# Only libraries that FFCV uses: pkg-config names all of OpenCV's.
LDFLAGS=-Wl,--as-needed "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --use-pep517 \
    --constraint constraints-but-torch.txt "$torch" --requirement requirements.txt

# FFCV names the OpenCV that opens windows, for which the image would need a graphics stack. This one is the same without.
opencv=$(sed -n 's/^opencv-python==//p' constraints.txt)
if "$venv/bin/python" -m pip show --quiet opencv-python 2>/dev/null; then
    "$venv/bin/python" -m pip uninstall --quiet --yes opencv-python
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps "opencv-python-headless==$opencv"
fi

site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
find "$site" -name '_libffcv*.so' -exec objdump -p {} + | awk '$1 == "NEEDED" { print $2 }' | while read -r library; do
    dpkg-query --search "*/$library"
done | cut -d : -f 1 | sort -u >packages.txt

"$venv/bin/python" -c 'import torch; print("torch", torch.__version__, "for CUDA", torch.version.cuda)'
