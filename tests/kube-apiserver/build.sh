#!/bin/sh
# Vets and builds the server: build.sh OUTPUT CACHE
#
# A developer's own Go caches are used where they are. Without them (an empty or
# a read-only home) they are made in CACHE and removed after the build: 3 GB.
set -eu
output=$1
cache=$2
cd "$(dirname "$0")"

modules=$(go env GOMODCACHE 2>/dev/null || true)
if ! { [ -d "$modules" ] && [ -w "$modules" ]; }; then
	export GOPATH="$cache/path" GOMODCACHE="$cache/path/pkg/mod" GOCACHE="$cache/build"
fi
# One set of flags, so that vet and build share what they compile; -modcacherw
# because Go writes its module cache read-only, which `rm -rf` cannot remove.
GOFLAGS="-mod=readonly -modcacherw -trimpath -buildvcs=false"
export GOFLAGS

go vet .
go build -ldflags '-s -w' -o "$output" .
rm -rf "$cache"
