#!/usr/bin/env bash
# Installs Debian packages (install.sh PACKAGE…), and lets none of them start a server of the system.
set -euo pipefail

policy=/usr/sbin/policy-rc.d
cluster=/etc/postgresql-common/createcluster.d/infinitic.conf
made=()
trap 'rm -f "${made[@]}"' EXIT

if [ ! -e "$policy" ]; then # the machine may have one of its own
    made+=("$policy")
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
made+=("$cluster")
mkdir -p "${cluster%/*}"
echo "create_main_cluster = false" >"$cluster"

install() {
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install \
        --yes --quiet --no-install-recommends "$@"
}

# the package lists may be absent or old
install "$@" || { apt-get update --quiet && install "$@"; }
