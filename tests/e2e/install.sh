#!/bin/sh
# Debian packages that the end-to-end suite runs beside the programs built by programs.py.
# Does nothing where all are there. Needs root only when something is missing.
set -eu

packages="etcd-server runc containernetworking-plugins busybox-static musl iproute2 iptables util-linux"
missing=""
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' ||
        missing="$missing $package"
done
[ -n "$missing" ] || exit 0

echo "e2e programs: installing$missing" >&2
apt-get update -qq >&2
# A packaged etcd would start a service of its own where an init system runs.
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d.tessera
chmod +x /usr/sbin/policy-rc.d.tessera
[ -e /usr/sbin/policy-rc.d ] || { mv /usr/sbin/policy-rc.d.tessera /usr/sbin/policy-rc.d; ours=yes; }
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >&2 || failed=$?
rm -f /usr/sbin/policy-rc.d.tessera
[ "${ours:-}" = "" ] || rm -f /usr/sbin/policy-rc.d
exit "${failed:-0}"
