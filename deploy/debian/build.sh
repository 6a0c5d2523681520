#!/usr/bin/env bash
# Builds the Debian package of a `meshlog` that was built before:
#
#   cargo build --profile dist -p meshlog-cli
#   deploy/debian/build.sh target/dist/meshlog target
#
# Needs dpkg-deb alone. Writes meshlog_VERSION_ARCHITECTURE.deb into the directory and prints its path.
set -euo pipefail

binary=${1:?the program to put into the package}
into=${2:?the directory to put the package into}
here=$(cd "$(dirname "$0")" && pwd)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 0755 "$root"

version=$("$binary" --version | cut -d' ' -f2)
architecture=$(dpkg --print-architecture)

install -D -m 0755 "$binary" "$root/usr/bin/meshlog"
install -D -m 0644 "$here/../systemd/meshlog.service" "$root/usr/lib/systemd/system/meshlog.service"
install -D -m 0644 "$here/../../LICENSE" "$root/usr/share/doc/meshlog/copyright"
install -D -m 0644 "$here/../grafana/meshlog.json" "$root/usr/share/doc/meshlog/grafana/meshlog.json"
install -D -m 0644 "$here/../prometheus/alerts.yml" "$root/usr/share/doc/meshlog/prometheus/alerts.yml"

# What the program says of itself: manual pages, completions, and the settings with their defaults.
install -d -m 0755 "$root/usr/share/man/man1"
"$binary" man "$root/usr/share/man/man1" > /dev/null
gzip -9n "$root"/usr/share/man/man1/*
complete() {
  install -d -m 0755 "$(dirname "$root/$2")"
  "$binary" completion "$1" > "$root/$2"
}
complete bash usr/share/bash-completion/completions/meshlog
complete zsh usr/share/zsh/vendor-completions/_meshlog
complete fish usr/share/fish/vendor_completions.d/meshlog.fish
HOME="$root/none" XDG_CONFIG_HOME= "$binary" serve --data-dir /var/lib/meshlog --print-config \
  > "$root/usr/share/doc/meshlog/config.toml" 2> /dev/null
find "$root/usr" -type d -exec chmod 0755 {} +
find "$root/usr/share" -type f -exec chmod 0644 {} +

mkdir -m 0755 "$root/DEBIAN"
cat > "$root/DEBIAN/control" <<CONTROL
Package: meshlog
Version: $version
Architecture: $architecture
Maintainer: The Meshlog authors <meshlog@example.org>
Installed-Size: $(du -sk "$root/usr" | cut -f1)
Depends: libc6 (>= 2.34), libgcc-s1
Section: database
Priority: optional
Description: log broker whose topics are data products
 Meshlog is the log, the schema registry and the catalogue of data products of
 an organisation in one process: owned, described, typed and enforced on the
 write path.
CONTROL
cat > "$root/DEBIAN/postinst" <<'POSTINST'
#!/bin/sh
set -e
# The service is not started by itself: who may reach it is to be decided first.
if [ "$1" = configure ] && [ -d /run/systemd/system ]; then
  systemctl daemon-reload || true
fi
POSTINST
cat > "$root/DEBIAN/prerm" <<'PRERM'
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
  systemctl stop meshlog.service || true
fi
PRERM
chmod 0755 "$root/DEBIAN/postinst" "$root/DEBIAN/prerm"

package="$into/meshlog_${version}_${architecture}.deb"
dpkg-deb --root-owner-group --build "$root" "$package" > /dev/null
printf '%s\n' "$package"
