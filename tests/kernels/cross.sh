#!/bin/bash
# cross.sh COMMAND...: runs COMMAND (cargo ...) in this directory, so that what it builds is for arm64, below
# target/arm64. As root.
#
# Debian's rustc and its libraries for arm64 have to be of one version, and libelf and zlib of that architecture are not
# to replace this system's. So the compilers are in a root directory of Debian unstable, made once below $CACHE; this
# directory and cargo's are mounted in it, at the same places, for as long as COMMAND runs.
set -euo pipefail

export CACHE=${CACHE:-target/kernels}
root=$(realpath -m "${ARM64_ROOT:-$CACHE/arm64-root}")
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 TMPDIR=/tmp
if [ ! -e "$root/complete" ]; then
	rm -rf --one-file-system "$root"
	mkdir -p "$root"
	# Where this system's apt takes lists that are out of date, as a mirror that stands still has them, so does that one.
	eval "$(apt-config shell valid Acquire::Check-Valid-Until)"
	{
		debootstrap --variant=minbase sid "$root"
		within=(chroot "$root" env PATH=/usr/sbin:/usr/bin:/sbin:/bin)
		"${within[@]}" dpkg --add-architecture arm64
		"${within[@]}" apt-get -q -o "Acquire::Check-Valid-Until=${valid:-true}" update
		"${within[@]}" apt-get -q -y -o Dpkg::Use-Pty=0 install --no-install-recommends cargo libstd-rust-dev:arm64 \
			gcc-aarch64-linux-gnu libc6-dev-arm64-cross libelf-dev:arm64 zlib1g-dev:arm64 clang make pkgconf
	} >&2
	touch "$root/complete"
fi
# Crates are fetched by this system's cargo, which knows from where.
cargo fetch -q --locked --target aarch64-unknown-linux-gnu
export CARGO_HOME=${CARGO_HOME:-$HOME/.cargo} CARGO_NET_OFFLINE=true
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target/arm64} CARGO_BUILD_TARGET=aarch64-unknown-linux-gnu
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
export PKG_CONFIG_ALLOW_CROSS=1 PKG_CONFIG_LIBDIR=/usr/lib/aarch64-linux-gnu/pkgconfig
mkdir -p "$CARGO_TARGET_DIR"
exec unshare --mount bash -euc '
	root=$1; shift
	for dir in /proc /dev "$PWD" "$CARGO_HOME" "$CARGO_TARGET_DIR"; do
		mkdir -p "$root$dir"
		mount --rbind "$dir" "$root$dir"
	done
	exec chroot "$root" env --chdir="$PWD" PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
' - "$root" "$@"
