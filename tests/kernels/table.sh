#!/bin/bash
# table.sh [--page] LOG...: what run.sh saw, a row for each machine. With --page a whole page in Markdown, with what each source said.
set -euo pipefail
page=
if [ "$1" = --page ]; then page=1; shift; fi

if [ -n "$page" ]; then
	cat <<'TEXT'
# Kernels

Made by `make test-kernels`: each of Debian's kernels (and some ways to run one) booted in an emulated machine. There every
source of the daemon is loaded, the test programs run with all that load, and dumps are measured against reading the same from
/proc. Instructions are emulated, so a ratio means something and a time does not. A warning of the kernel fails a machine.
How each of them was started is in `tests/kernels/run.sh`.

`make test-compilers` shows which compilers make programs that load; see [Compilers](compilers.md).

TEXT
fi

echo '| machine | kernel | chosen | `bpf` | `bpf-iter` | tests passed | failed | skipped |'
echo '|---|---|---|---|---|--:|--:|--:|'
for log in "$@"; do
	awk -F'\t' -v name="$(basename "$log" | sed 's/-\(amd64\|arm64\)/ \1/; s/+/, /')" '
		{ sub(/\r$/, "") }
		/^machine: / && !kernel { split($0, words, " "); kernel = words[2] }
		$1 == "@info" && $2 == "auto" && $3 ~ /^source: / { chosen = substr($3, 9) }
		$1 == "@loaded" { loaded[$2] = $3 }
		$1 == "@test" { passed += $3; failed += $4; if ($5 == 124) failed++ }
		$1 == "@skipped" { skipped++ }
		END {
			printf "| %s | %s | %s | %s | %s | %d | %d | %d |\n", name, kernel ? kernel : "did not boot", chosen ? chosen : "none",
				loaded["bpf"], loaded["bpf-iter"], passed, failed, skipped
		}' "$log"
done

echo
echo 'How many times as fast as /proc the chosen source is, through the mount:'
echo
awk -F'\t' '
	function machine(path) {
		sub(/.*\//, "", path); sub(/-amd64/, " amd64", path); sub(/-arm64/, " arm64", path); sub(/\+/, ", ", path)
		return path
	}
	{ sub(/\r$/, "") }
	$1 == "@bench" && $2 ~ /^\| / && $2 !~ /^\| asked for/ {
		split($2, cells, / *\| */)
		if (!(cells[2] in seen)) { seen[cells[2]] = 1; asked[++rows] = cells[2] }
		if (!(FILENAME in known)) { known[FILENAME] = 1; files[++count] = FILENAME }
		ratio[cells[2], FILENAME] = cells[7]
	}
	END {
		printf "| asked for |"; for (f = 1; f <= count; f++) printf " %s |", machine(files[f])
		printf "\n|---|"; for (f = 1; f <= count; f++) printf "--:|"
		print ""
		for (r = 1; r <= rows; r++) {
			printf "| %s |", asked[r]
			for (f = 1; f <= count; f++) printf " %s |", ratio[asked[r], files[f]]
			print ""
		}
	}' "$@"

[ -n "$page" ] || exit 0
for log in "$@"; do
	printf '\n## %s\n\n' "$(basename "$log" | sed 's/-\(amd64\|arm64\)/ \1/; s/+/, /')"
	sed -n 's/^machine: \(.*up after.*\)/\1/p' "$log" | head -n 1
	printf '\n```text\n'
	tr -d '\r' <"$log" | sed -n 's/^@info\tauto\t\(source.*\)/\1/p; s/^  \(auto\|bpf\|bpf-iter\): /&/p' | sed 's/\x1b\[[0-9;]*m//g' | cut -c1-400
	tr -d '\r' <"$log" | sed -n 's/^@failed\t\([^\t]*\)\t/failed: \1 /p; s/^@skipped\t\([^\t]*\)\t/skipped: \1 /p'
	printf '```\n'
done
