#!/bin/bash
# Run inside an emulated machine by run.sh: says what each source of the daemon makes of this kernel, runs the test programs
# beside it, and measures. Lines for run.sh begin with `@`, fields are separated by tabs.
#   inside.sh PATH-OF-THE-BINARY SECONDS-A-TEST-PROGRAM SPAWN [TEST-PROGRAM...]
set -u
binary=$1 seconds=$2 spawn=$3
shift 3
row() { local IFS=$'\t'; echo "@$*"; }

# What the daemon says of itself: `info`, and why no faster source was chosen.
serve() {
	local source=$1 dir=/tmp/mount log=/tmp/log
	mkdir -p "$dir"
	RUST_LOG=info "$binary" mount "$dir" --source "$source" 2>"$log" &
	local daemon=$!
	for _ in $(seq 600); do
		if [ -e "$dir/info" ] || ! kill -0 $daemon 2>/dev/null; then break; fi
		sleep 0.1
	done
	if [ -e "$dir/info" ]; then
		sed "s/^/@info\t$source\t/" "$dir/info"
		row loaded "$source" yes
	else
		row loaded "$source" no
	fi
	sed "s/^/  $source: /" "$log"
	kill -TERM $daemon 2>/dev/null
	wait $daemon
}

for source in auto bpf bpf-iter procfs; do serve "$source"; done

failed=0
for test in "$@"; do
	began=$SECONDS
	timeout "$seconds" "$test" --test-threads=2 >/tmp/out 2>&1
	status=$?
	result=$(sed -n 's/^test result: \([a-zA-Z]*\)\. \([0-9]*\) passed; \([0-9]*\) failed;.*/\2\t\3/p' /tmp/out | tail -n 1)
	name=$(basename "$test"); name=${name%-*}
	row test "$name" "${result:-0	1}" "$status" "$((SECONDS - began))"
	sed -n 's/^test \(.*\) \.\.\. FAILED$/@failed\t'"$name"'\t\1/p' /tmp/out
	sed -n 's/.*SKIPPED: /@skipped\t'"$name"'\t/p' /tmp/out | sort -u
	if [ $status -ne 0 ]; then
		failed=1
		tail -n 60 /tmp/out | sed "s/^/  $name: /"
	fi
done

if [ "$spawn" -gt 0 ]; then
	mkdir -p /tmp/mount
	"$binary" mount /tmp/mount 2>/dev/null &
	daemon=$!
	for _ in $(seq 600); do [ ! -e /tmp/mount/info ] || break; sleep 0.1; done
	"$binary" bench --path /tmp/mount/task_diag --spawn "$spawn" 2>&1 | sed 's/^/@bench\t/'
	kill -TERM $daemon
	wait $daemon
fi
exit $failed
