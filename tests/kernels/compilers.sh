#!/bin/bash
# compilers.sh [CLANG...]: the tests of `make test-compilers`. Every clang compiles all BPF programs, and this kernel loads them by
# the daemon's own loader; prints one table: instructions that the verifier followed (of 1,000,000), stack of the longest chain
# of calls (of 512 bytes) and its calls (of 8). A CLANG is a command of this machine (clang-16) or SUITE/clang-N; by default
# those of this machine and all that the suites have. Root is needed, to load programs and to make root directories.
#
#   SUITES   Debian's suites to take compilers from, "trixie sid" by default
#   ROOTS    where their root directories are kept, target/kernels/roots by default
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
ROOTS=$(realpath -m "${ROOTS:-${CACHE:-target/kernels}/roots}")
work=$(realpath "$(mktemp -d "${TMPDIR:-/tmp}/task-diag-compilers.XXXXXX")")
trap 'rm -rf "$work"' EXIT
library=lib/$(uname -m)-linux-gnu

# in_root SUITE COMMAND...: the root directory is made where it is not there. (A list on a mirror may have expired.)
in_root() {
	local root=$ROOTS/$1
	if [ ! -e "$root/etc/debian_version" ]; then
		mkdir -p "$ROOTS"
		debootstrap --variant=minbase "$1" "$root" >&2
	fi
	echo 'Acquire::Check-Valid-Until "false";' >"$root/etc/apt/apt.conf.d/90task-diag"
	DEBIAN_FRONTEND=noninteractive chroot "$root" "${@:2}"
}

# The compilers that a suite has, found in its own list, so that new ones come by themselves.
of_suite() {
	in_root "$1" apt-get -q update >&2
	in_root "$1" apt-cache pkgnames clang- | grep -E '^clang-[0-9]+$' | sort -V | sed "s|^|$1/|"
}

# command_of CLANG: a command that compiles. One of a suite runs with the libraries of its root directory, not inside it.
command_of() {
	local suite=${1%/*} name=${1#*/} root=$ROOTS/${1%/*} script=$work/${1//\//-}
	if [ "$suite" = "$1" ]; then command -v "$1"; return; fi
	[ -e "$root/usr/bin/$name" ] || in_root "$suite" apt-get -q -y install --no-install-recommends "$name" >&2
	cat >"$script" <<-SCRIPT
		#!/bin/sh
		exec $(echo "$root"/lib64/ld-linux-*) --library-path $root/usr/$library:$root/usr/lib/llvm-${name#clang-}/lib \\
			$root/usr/lib/llvm-${name#clang-}/bin/clang "\$@"
	SCRIPT
	chmod +x "$script"
	echo "$script"
}

if [ $# -eq 0 ]; then
	mapfile -t here < <(compgen -c clang- | grep -xE 'clang-[0-9]+' | sort -uV)
	set -- "${here[@]}"
	for suite in ${SUITES:-trixie sid}; do
		mapfile -t there < <(of_suite "$suite")
		set -- "$@" "${there[@]}"
	done
fi

status=0
printf '%-18s %-10s %-16s %12s %8s %6s\n' compiler object program instructions stack calls >"$work/table"
for clang in "$@"; do
	echo "== $clang" >&2
	command=$(command_of "$clang")
	if ! CLANG=$command cargo build --locked --bin task-diag >"$work/log" 2>&1; then
		grep -vE '^ *(Compiling|Fresh)' "$work/log" | head -n 40 >&2
		printf '%-18s DOES NOT COMPILE\n' "$clang" >>"$work/table"
		status=1
		continue
	fi
	"${CARGO_TARGET_DIR:-target}/debug/task-diag" verify-programs >"$work/programs" || status=1
	while read -r object program instructions stack calls; do
		if [ "$program" = FAILED ]; then
			printf '%-18s %-10s %s\n' "$clang" "$object" "FAILED $instructions $stack $calls" >>"$work/table"
		else
			printf '%-18s %-10s %-16s %12s %8s %6s\n' "$clang" "$object" "$program" "$instructions" "$stack" "$calls" >>"$work/table"
		fi
	done <"$work/programs"
done
echo "Linux $(uname -r):"
cat "$work/table"
exit $status
