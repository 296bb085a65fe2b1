# What only a root of one's own allows: Debian's package manager at work, an account that comes and goes, links that lead to alternatives.
set -e
dpkg-query --show | md5sum
dpkg --verify
apt-get check
dpkg --print-foreign-architectures
useradd --create-home --shell /bin/bash ann
id ann
su ann -c 'cd; umask 027; echo mine >f; stat -c "%U %a %n" f; cat /etc/shadow' 2>&1 || echo refused
userdel --remove ann
getent passwd ann || echo gone
readlink -f /usr/bin/awk
cd "$(mktemp -d)"
trap 'rm -rf "$PWD"' EXIT
mkdir -p made/DEBIAN made/usr/share/made
printf 'Package: made\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@localhost>\nDescription: made\n' >made/DEBIAN/control
printf '#!/bin/sh\necho configured $1\n' >made/DEBIAN/postinst
chmod 755 made/DEBIAN/postinst
echo content >made/usr/share/made/file
dpkg-deb --build made >/dev/null
dpkg --install made.deb 2>&1
dpkg --listfiles made
cat /usr/share/made/file
dpkg --purge made 2>&1
ls /usr/share/made
