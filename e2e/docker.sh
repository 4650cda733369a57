#!/usr/bin/env bash
# docker.sh STORE IMAGE BUILD-ARG…: builds the Dockerfile with buildah, as root, and keeps images in the folder STORE.
# It uses no image registry: it makes the build image once from Debian and this machine's Go, and modules come from this machine's
# cache before the network.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p "$1"
store=$(cd "$1" && pwd) image=$2
shift 2

buildah() { command buildah --root "$store/root" --runroot "$store/run" --storage-driver vfs "$@"; }

base=localhost/kms-auditor-builder:bookworm-$(go env GOVERSION)
if ! buildah inspect --type image "$base" >/dev/null 2>&1; then
  echo "docker: making $base"
  rootfs=$(mktemp -d "$store/rootfs.XXXXXX")
  trap 'rm -rf "$rootfs"' EXIT
  debootstrap --variant=minbase --include=ca-certificates bookworm "$rootfs" >"$store/debootstrap.log" </dev/null || {
    tail "$store/debootstrap.log" >&2
    exit 1
  }
  container=$(buildah from scratch)
  buildah add -q "$container" "$rootfs" / >/dev/null
  buildah add -q "$container" "$(go env GOROOT)" /usr/local/go >/dev/null
  buildah config --env PATH=/usr/local/go/bin:/usr/sbin:/usr/bin:/sbin:/bin --env GOTOOLCHAIN=local --env GOCACHE=/gocache "$container"
  buildah commit -q --rm "$container" "$base" >/dev/null
fi

args=(--build-arg "BUILD_IMAGE=$base" --build-arg "GOPROXY=file:///modules/cache/download,$(go env GOPROXY)")
for arg; do
  args+=(--build-arg "$arg")
done
mkdir -p "$store/gocache"
go mod download # the machine may reach the network in a way that the build does not know of
buildah bud --isolation chroot --layers=false --pull-never "${args[@]}" \
  -v "$(go env GOMODCACHE):/modules:ro" -v "$store/gocache:/gocache:rw" -t "$image" . </dev/null
