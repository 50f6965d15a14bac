#!/bin/sh
# Builds the images of both services from the checkout, and writes what is in them.
#
#   build.sh image    key-vault:VERSION and chat-gateway:VERSION, with Docker, Podman or buildah (or ENGINE)
#   build.sh sbom     target/image/NAME.cdx.json of each: CycloneDX, as Trivy reads it from the image
#
# BASE pins what they are built on; SOURCE is where the sources can be had, for the label.
set -eu
cd "$(dirname "$0")/../.."

services='key-vault chat-gateway'
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
# A client of Docker without its daemon builds nothing.
engine=${ENGINE:-$({ docker info > /dev/null 2>&1 && echo docker; } || command -v podman || command -v buildah || true)}
[ -n "$engine" ] || { echo 'neither Docker nor Podman nor buildah is here' >&2; exit 1; }

build() {
  revision=$(git rev-parse HEAD)
  git diff --quiet HEAD || revision=$revision-changed
  for name in $services; do
    "$engine" build -f deploy/Dockerfile --target "$name" -t "$name:$version" ${BASE:+--build-arg "BASE=$BASE"} \
      --build-arg "VERSION=$version" --build-arg "REVISION=$revision" --build-arg "SOURCE=${SOURCE:-}" \
      --build-arg "SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)" .
  done
}

# The archive of an image, in the one form that all three engines write.
archive() { # NAME FILE
  case $engine in
    *buildah) buildah push --quiet "$1:$version" "docker-archive:$2" ;;
    *) "$engine" save --output "$2" "$1:$version" ;;
  esac
}

sbom() {
  mkdir -p target/image
  for name in $services; do
    tar=target/image/$name.tar
    rm -f "$tar"
    archive "$name" "$tar"
    trivy image --quiet --input "$tar" --format cyclonedx --output "target/image/$name.cdx.json"
    rm "$tar"
  done
}

case ${1:-} in
  image) build ;;
  sbom) sbom ;;
  *) echo "usage: $0 image|sbom" >&2; exit 2 ;;
esac
