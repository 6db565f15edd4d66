#!/bin/sh
# Run stage of both images: system packages, and the user that everything runs as.
# usage: system.sh VENV PACKAGES_FILE
set -eu
venv=$1

# KubeRay looks after its pods with wget, up to Ray 2.52's health check.
# shellcheck disable=SC2046  # one word for every package
apt-get update -qq &&
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends wget $(cat "$2") >/dev/null
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*.log /var/log/apt

useradd --uid 1000 --user-group --create-home --shell /bin/bash distcond

# A login shell, which some launchers start, forgets the image's PATH.
echo "PATH=$venv/bin:\$PATH" >/etc/profile.d/distcond.sh
