#!/bin/sh
# Makes the secrets of compose.yaml in the folder `secrets` beside this file, or in SECRETS: an
# authority, certificates of a quarter, the keyring, and the password of the database.
#
# Run it again to renew the certificates: the services take them up within seconds, PostgreSQL when
# it is told (`docker compose -f deploy/compose.yaml kill -s HUP postgres`). What would
# lose something is never made twice: the authority, the keyring, the password.
#
# Needs OpenSSL 3, Docker with the image of key-vault (or its binary, named by KEY_VAULT), and
# root: each file belongs to the one user that reads it.
set -eu

secrets=${SECRETS:-$(cd "$(dirname "$0")" && pwd)/secrets}
services=65532 # the user of both images
postgres=999   # the user `postgres` of the official image
[ "$(id -u)" -eq 0 ] || { echo "run it as root: the files belong to users $services and $postgres" >&2; exit 1; }

umask 077
mkdir -p "$secrets"
# Users pass through it to their files, and cannot list it.
chmod 0711 "$secrets"
cd "$secrets"

# Puts a new file in the place of one whose container may have it mounted: the same file, with
# other content. A rename would leave the container with the old one.
put() { # FILE OWNER, content from standard input
  cat > "$1"
  chown "$2:$2" "$1"
}

# A certificate and its key, of the authority. The key first: a pair that does not fit is waited for.
issue() { # NAME OWNER USAGE SUBJECT_ALTERNATIVE_NAME
  openssl req -x509 -CA ca.crt -CAkey ca.key -days 90 -noenc -newkey ec -pkeyopt ec_paramgen_curve:P-256 \
    -subj "/CN=$1" -addext "subjectAltName=$4" -addext "extendedKeyUsage=$3" \
    -addext 'basicConstraints=critical,CA:false' -addext 'keyUsage=critical,digitalSignature' \
    -keyout new.key -out new.crt 2> /dev/null
  put "$1.key" "$2" < new.key
  put "$1.crt" "$2" < new.crt
  rm new.key new.crt
}

# Its key stays with root and is mounted nowhere.
if [ ! -s ca.crt ]; then
  openssl req -x509 -days 3650 -noenc -newkey ec -pkeyopt ec_paramgen_curve:P-256 -subj '/CN=compose authority' \
    -addext 'basicConstraints=critical,CA:true' -addext 'keyUsage=critical,keyCertSign' \
    -keyout ca.key -out ca.crt 2> /dev/null
  chmod 0444 ca.crt
fi

issue postgres "$postgres" serverAuth DNS:postgres
issue key-vault "$services" serverAuth DNS:key-vault
issue chat-gateway "$services" serverAuth DNS:chat-gateway,DNS:localhost,IP:127.0.0.1
for caller in gateway-identity:chat-gateway admin:admin app:app; do
  issue "${caller%:*}" "$services" clientAuth "URI:spiffe://compose.internal/${caller#*:}"
done

if [ ! -s database-url ]; then
  password=$(openssl rand -hex 24)
  printf %s "$password" | put database-password "$postgres"
  printf 'postgres://key_vault:%s@postgres:5432/key_vault?sslmode=verify-full&sslrootcert=/run/secrets/ca.crt' "$password" \
    | put database-url "$services"
fi

if [ ! -e keyring ]; then
  install -d -o "$services" -g "$services" new
  if [ -n "${KEY_VAULT:-}" ]; then
    "$KEY_VAULT" keyring init new/keyring
  else
    docker run --rm --network none --read-only --cap-drop ALL --security-opt no-new-privileges \
      --volume "$secrets/new:/new" "key-vault:${VERSION:-0.1.0}" keyring init /new/keyring
  fi
  chown "$services:$services" new/keyring
  mv new/keyring keyring
  rmdir new
fi
