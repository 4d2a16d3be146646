#!/bin/bash
# kernel.sh SUITE ARCH: prints the folder that holds Debian's newest cloud kernel of that suite (bookworm, sid ...) and
# architecture (amd64, arm64): `vmlinuz`, `modules/`, and its version in `version`. Fetched once, kept below $CACHE.
#
# The mirror is the one that this machine's apt uses; packages are looked up in the suite's own list, so new versions
# are found by themselves.
set -euo pipefail

suite=$1 arch=$2
CACHE=${CACHE:-target/kernels}
mirror=${MIRROR:-$(apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' 'Created-By: Packages' |
	sed -n 's/^Debian \(.*\/debian\/\)$/\1/p' | head -n 1)}
mirror=${mirror%/}
[ -n "$mirror" ] || { echo "kernel.sh: apt names no mirror of Debian; set MIRROR" >&2; exit 1; }

mkdir -p "$CACHE/lists"
list=$CACHE/lists/$suite-$arch
# A list is as good as new for a day.
if [ -z "$(find "$list" -mmin -1440 2>/dev/null)" ]; then
	curl -sSfL --retry 3 "$mirror/dists/$suite/main/binary-$arch/Packages.xz" | xz -d >"$list.new"
	mv "$list.new" "$list"
fi

# field PACKAGE NAME: a field of a package, of its last version in the list.
field() {
	awk -v package="$1" -v name="$2:" '
		$1 == "Package:" { here = $2 == package }
		here && $1 == name { sub(/^[^ ]+ /, ""); value = $0 }
		END { print value }' "$list"
}

package=$(field "linux-image-cloud-$arch" Depends | grep -o 'linux-image-[^ ,(]*' | head -n 1)
[ -n "$package" ] || { echo "kernel.sh: $suite has no cloud kernel for $arch" >&2; exit 1; }
dir=$CACHE/$suite-$arch/$package
if [ ! -e "$dir/version" ]; then
	rm -rf "${dir:?}"
	mkdir -p "$dir/files"
	# Newer suites part a kernel into an image, its binary and its modules.
	for part in "$package" $(field "$package" Depends | grep -oE 'linux-(binary|modules)-[^ ,(]*'); do
		curl -sSfL --retry 3 -o "$dir/deb" "$mirror/$(field "$part" Filename)"
		dpkg-deb -x "$dir/deb" "$dir/files"
	done
	find "$dir/files" -type f -name 'vmlinu*' -exec mv {} "$dir/vmlinuz" \;
	modules=$(find "$dir/files" -type d -path '*lib/modules/*' -prune | head -n 1)
	basename "$modules" >"$dir/version.new"
	mv "$modules" "$dir/modules"
	rm -rf "$dir/files" "$dir/deb"
	mv "$dir/version.new" "$dir/version"
fi
realpath "$dir"
