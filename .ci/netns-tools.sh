#!/bin/sh
# What `make test-netns` needs of the system: root, iproute2, iptables.
PATH=$PATH:/usr/sbin:/sbin

if [ "$(id -u)" != 0 ]; then
  echo "make test-netns makes network namespaces: run it as root" >&2
  exit 1
fi

missing() {
  for tool in ip:iproute2 iptables-restore:iptables setpriv:util-linux; do
    command -v "${tool%:*}" >/dev/null || printf '%s ' "${tool#*:}"
  done
}

packages=$(missing)
[ -z "$packages" ] && exit 0
if ! command -v apt-get >/dev/null; then
  echo "make test-netns: install ${packages% } (no apt-get here to do it)" >&2
  exit 1
fi
echo "Installing ${packages% }"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list
apt-get install -qq --no-install-recommends $packages >/dev/null 2>&1 ||
  { apt-get update -qq && apt-get install -qq --no-install-recommends $packages >/dev/null; }
packages=$(missing)
[ -z "$packages" ] && exit 0
echo "make test-netns: apt-get could not install ${packages% }; install it and run again" >&2
exit 1
