#!/bin/sh
# Makes the root file system of an image from one binary.
#
#   rootfs.sh BINARY DEST [NAME]
#
# DEST gets the binary as /usr/local/bin/NAME (its own name unless given), the libraries that it
# loads, certificates of public authorities, and what tells names from numbers. There is no
# shell, no package manager and nothing that can be written to, but the vault's own folder.
# What scanners need to know what is in it is there too: the version of Debian, and the entries of
# the Debian packages that files come from.
#
# Needs Debian 12 or newer with ca-certificates. Everything is dated SOURCE_DATE_EPOCH, or 1970.
set -eu

binary=$1 dest=$2 name=${3:-$(basename "$1")}
user=65532
documents=$dest/usr/share/doc
packages=$dest/var/lib/dpkg/status.d
umask 022

# Before 2.34 glibc looked for names with libraries that no binary says it needs.
glibc=$(getconf GNU_LIBC_VERSION | cut -d ' ' -f 2)
[ "$(printf '%s\n' 2.34 "$glibc" | sort -V | head -n 1)" = 2.34 ] || { echo "glibc $glibc is older than 2.34" >&2; exit 1; }

# A folder that is there may hold more than this puts into it.
[ ! -e "$dest" ] || { echo "$dest exists" >&2; exit 1; }
mkdir -p "$dest/etc/ssl/certs" "$packages"

install -D -m 0755 "$binary" "$dest/usr/local/bin/$name"

# Of each line the path: `libc.so.6 => /lib/…/libc.so.6 (0x…)`, `/lib64/ld-linux-x86-64.so.2 (0x…)`.
libraries=$(ldd "$binary" | tr '\t' '\n' | sed -n 's/^\(.* => \)\{0,1\}\(\/[^ ]*\) (0x.*/\2/p')
for library in $libraries; do
  install -D -m 0755 "$library" "$dest$library"
done

# Debian's certificates and not /etc/ssl/certs, to which this machine may have added its own.
for certificate in /usr/share/ca-certificates/mozilla/*.crt; do
  sed '' "$certificate"
done > "$dest/etc/ssl/certs/ca-certificates.crt"

cat > "$dest/etc/passwd" <<PASSWD
root:x:0:0:root:/:/nonexistent
$name:x:$user:$user:$name:/nonexistent:/nonexistent
PASSWD
cat > "$dest/etc/group" <<GROUP
root:x:0:
$name:x:$user:
GROUP
echo 'hosts: files dns' > "$dest/etc/nsswitch.conf"
cp -L /etc/debian_version /etc/os-release "$dest/etc/"

# The package of a library. Debian merged /lib into /usr, and its packages know one name of two. The
# other may be diverted, which is said in a line without a package.
package_of() {
  dpkg-query --search "$1" "/usr$1" 2>/dev/null | grep -v '^diversion' | head -n 1 | cut -d : -f 1
}
for package in $(for library in $libraries; do package_of "$library"; done | sort -u) ca-certificates; do
  dpkg-query --status "$package" > "$packages/$package"
  install -D -m 0644 "/usr/share/doc/$package/copyright" "$documents/$package/copyright"
done

# Where an SQLite file may be kept. A new volume that is mounted here takes its owner from it.
if [ "$name" = key-vault ]; then
  install -d -m 0700 "$dest/var/lib/key-vault"
  [ "$(id -u)" -ne 0 ] || chown "$user:$user" "$dest/var/lib/key-vault"
fi

find "$dest" -exec touch --no-dereference --date "@${SOURCE_DATE_EPOCH:-0}" {} +
