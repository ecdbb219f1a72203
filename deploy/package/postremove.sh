#!/bin/sh
# What was pulled is forgotten by a purge alone: whoever installs it again goes on where it ended. At an upgrade the new version's postinstall follows.
set -e
case "$1" in
purge) rm -rf /var/lib/fluent-bit-defender /var/lib/private/fluent-bit-defender ;;
remove | 0) [ ! -d /run/systemd/system ] || systemctl daemon-reload ;;
esac
