#!/bin/bash
# run.sh [--short] [KERNEL...]: the kernel tests of `make test-kernels`. Boots each kernel in an emulated machine, loads every
# source of the daemon there, runs the test programs with them, measures against /proc, and prints one table. Without --short
# the table also goes to docs/kernels.md. A KERNEL is SUITE/ARCH, perhaps with a variant behind a `+`:
#   bookworm/amd64    Debian's newest cloud kernel of that suite (kernel.sh)
#   …+1cpu, +64cpus   one processor; two, and 64 possible ones
#   …+la57            page tables of five levels
#   …+kptr, +lockdown kptr_restrict=2; the kernel locked down for integrity
#   …+pidns           all of it in a pid namespace of its own
# Every kernel's warning fails its machine. Ends with 1 if a test failed anywhere.
set -euo pipefail

here=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
cd "$here/../.."
short=
if [ "${1:-}" = --short ]; then short=1; shift; fi
if [ $# -gt 0 ]; then
	kernels=("$@")
elif [ -n "$short" ]; then
	kernels=(bookworm/amd64 trixie/amd64 sid/amd64)
else
	kernels=(bullseye/amd64 bookworm/amd64 trixie/amd64 sid/amd64 trixie/arm64 sid/arm64
		trixie/amd64+1cpu trixie/amd64+64cpus trixie/amd64+la57 trixie/amd64+kptr trixie/amd64+lockdown trixie/amd64+pidns)
fi
# Those whose answers depend on the kernel. The short form leaves out what takes longest in an emulated machine.
tests=(${TESTS:-fields access $([ -n "$short" ] || echo strategies errors isolation more_fields more_access namespaces open_files relatives hung_memory)})
spawn=${SPAWN:-$([ -n "$short" ] && echo 500 || echo 2000)}
seconds=${SECONDS_A_TEST:-600}
results=${CACHE:-target/kernels}/results
rm -rf "$results"
mkdir -p "$results"
results=$(realpath "$results")

# build ARCH: the test programs and the binary, optimised a little; sets `binary` and `programs`.
build() {
	local target=() output
	case $1 in
		amd64) output=$(cargo test --locked --profile kernels --no-run --message-format=json $(printf -- '--test %s ' "${tests[@]}")) ;;
		arm64) output=$("$here/cross.sh" cargo test --locked --profile kernels --no-run --message-format=json $(printf -- '--test %s ' "${tests[@]}")) ;;
	esac
	mapfile -t programs < <(sed -n 's/.*"kind":\["test"\].*"executable":"\([^"]*\)".*/\1/p' <<<"$output")
	binary=$(sed -n 's/.*"kind":\["bin"\].*"executable":"\([^"]*\)".*/\1/p' <<<"$output" | tail -n 1)
}

# The source that has to be chosen on a suite's kernel.
declare -A expected=([bullseye]=procfs [bookworm]=bpf-iter [trixie]=bpf [sid]=bpf)

status=0
built=
for kernel in "${kernels[@]}"; do
	IFS=+ read -r name variant <<<"$kernel"
	arch=${name#*/}
	if [ "$built" != "$arch" ]; then build "$arch"; built=$arch; fi
	options=(--seconds 2400)
	[ "$arch" = amd64 ] || options+=(--sysroot "$("$here/sysroot.sh" sid "$arch")")
	within=()
	case $variant in
		1cpu) options+=(--cpus 1) ;;
		64cpus) options+=(--possible 64) ;;
		la57) options+=(--la57) ;;
		kptr) options+=(--append "sysctl.kernel.kptr_restrict=2") ;;
		lockdown) options+=(--append "lockdown=integrity lsm=lockdown,capability,landlock,yama,bpf") ;;
		pidns) within=(unshare --pid --fork --mount-proc) ;;
		'') ;;
		*) echo "run.sh: unknown variant $variant" >&2; exit 2 ;;
	esac
	echo "== $kernel"
	log=$results/${kernel//\//-}
	machine=0
	"$here/machine.sh" "${options[@]}" "$("$here/kernel.sh" "${name%/*}" "$arch")" "$here/inside.sh" "$binary=$binary" "${programs[@]}" \
		-- "${within[@]}" /work/inside.sh "$binary" "$seconds" "$spawn" $(printf '/work/%s ' "${programs[@]##*/}") >"$log" 2>&1 || machine=$?
	grep -a '^@\(loaded\|test\|failed\|skipped\)' "$log" | tr '\t' ' ' || true
	chosen=$(tr -d '\r' <"$log" | sed -n 's/^@info\tauto\tsource: //p')
	if [ "$chosen" != "${expected[${name%/*}]:-$chosen}" ]; then
		status=1
		echo "FAILED: $kernel: the source is '$chosen', not ${expected[${name%/*}]}"
		grep -a '^  auto: ' "$log" || true
	fi
	if [ $machine -ne 0 ]; then
		status=1
		echo "FAILED: $kernel ended with $machine; the last of its log ($log):"
		tail -n 25 "$log"
	fi
done

"$here/table.sh" "$results"/* | tee "$results.md"
[ -n "$short" ] || "$here/table.sh" --page "$results"/* >docs/kernels.md
exit $status
