#!/bin/bash
# sysroot.sh SUITE ARCH: prints a folder with the programs and libraries of a Debian suite for an architecture that is not
# this machine's, for machine.sh to take them from. Nothing in it is run here.
set -euo pipefail
suite=$1 arch=$2
CACHE=${CACHE:-target/kernels}
dir=$CACHE/sysroot-$suite-$arch
if [ ! -e "$dir/complete" ]; then
	rm -rf "${dir:?}"
	mkdir -p "$CACHE"
	packages=busybox-static,fuse3,procps,iproute2,util-linux,mount,bsdutils,zlib1g,libelf1$([ "$suite" = bookworm ] || echo t64)
	debootstrap --foreign --variant=minbase --arch="$arch" --include="$packages" "$suite" "$dir" >&2
	for deb in "$dir"/var/cache/apt/archives/*.deb; do dpkg-deb -x "$deb" "$dir"; done
	touch "$dir/complete"
fi
realpath "$dir"
