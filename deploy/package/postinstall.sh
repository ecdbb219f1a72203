#!/bin/sh
# An installation starts nothing. An upgrade restarts the service if it runs: dpkg gives the version before, rpm the number of versions.
set -e
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
case "$1:$2" in
configure:?* | 2:*) systemctl try-restart fluent-bit-defender.service ;;
esac
