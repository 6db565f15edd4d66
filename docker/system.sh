#!/bin/sh
# Run stage of both images: system packages, and the user that everything runs as.
# usage: system.sh VENV PACKAGES_FILE
set -eu
venv=$1
packages=$(cat "$2")

apt-get update -qq
# KubeRay looks after its pods with wget: older ones always, newer ones for a Ray before 2.53.
# shellcheck disable=SC2086  # one word for every package
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends wget $packages >/dev/null
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*.log /var/log/apt

# Some bases have the number already, Ubuntu's for a user `ubuntu`. Its files stay, and are distcond's.
taken=$(getent passwd 1000 | cut -d : -f 1)
[ -z "$taken" ] || userdel --force "$taken"
getent group 1000 >/dev/null || groupadd --gid 1000 distcond
useradd --uid 1000 --gid 1000 --create-home --shell /bin/bash distcond

# For Ray's --temp-dir: it makes what is below writable by every user.
install --directory --mode=0700 --owner=1000 --group=1000 /var/lib/distcond

# A login shell, which some launchers start, forgets the image's PATH.
echo "PATH=$venv/bin:\$PATH" >/etc/profile.d/distcond.sh
