#!/bin/sh
# The service ends before its files go; an upgrade (dpkg: upgrade, rpm: 1) leaves it running.
set -e
[ -d /run/systemd/system ] || exit 0
case "$1" in
remove | 0) systemctl disable --now fluent-bit-defender.service ;;
esac
