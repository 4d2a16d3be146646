#!/bin/bash
# machine.sh [OPTIONS] KERNEL [FILE...] -- COMMAND...: boots a kernel in an emulated machine, whose root is in memory, and
# runs COMMAND there as root. Ends with the status of the command; 125 if the machine did not come to it or did not end well.
#
#   KERNEL            a folder of kernel.sh, or SUITE/ARCH (trixie/amd64) to have it fetched
#   FILE              a program or file to take along, HOST or HOST=GUEST; by itself it stands in /work. Shared libraries
#                     that it needs come along, as do bash, busybox, and what tests call
#   --sysroot DIR     where libraries and programs for the machine's architecture are (for arm64), default /
#   --cpus N          processors, 2 by default; --possible N: as many more as can be added (possible ones)
#   --memory MIB      3072 by default
#   --la57            page tables of five levels (x86-64)
#   --cpu MODEL       the emulated processor
#   --append WORDS    more of the kernel's command line
#   --warnings        a kernel's warning is no end: by default the machine panics, which is a status of 125
#   --seconds N       after which the machine is ended, 1500 by default
set -euo pipefail

here=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
cpus=2 possible= memory=3072 cpu= append= sysroot=/ panic="panic_on_warn=1" seconds=1500 la57=off
kernel= files=()
while [ $# -gt 0 ]; do
	case $1 in
		--sysroot) sysroot=$2; shift ;;
		--cpus) cpus=$2; shift ;;
		--possible) possible=$2; shift ;;
		--memory) memory=$2; shift ;;
		--cpu) cpu=$2; shift ;;
		--append) append=$2; shift ;;
		--seconds) seconds=$2; shift ;;
		--la57) la57=on ;;
		--warnings) panic= ;;
		--help) sed -n '2,/^set/{s/^# \{0,1\}//;/^set/!p}' "$0"; exit 0 ;;
		--) shift; break ;;
		-*) echo "machine.sh: unknown option $1" >&2; exit 2 ;;
		*) if [ -z "$kernel" ]; then kernel=$1; else files+=("$1"); fi ;;
	esac
	shift
done
[ -n "$kernel" ] && [ $# -gt 0 ] || { echo "machine.sh: needs a kernel and, after --, a command" >&2; exit 2; }
command=$(printf '%q ' "$@")
[ -d "$kernel" ] || kernel=$("$here/kernel.sh" "${kernel%/*}" "${kernel#*/}")
version=$(cat "$kernel/version")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{bin,dev,proc,sys,run,tmp,etc,work,lib/modules}
ln -s bin "$root/sbin"
mkdir "$root/usr"
ln -s ../bin "$root/usr/bin"; ln -s ../bin "$root/usr/sbin"; ln -s ../lib "$root/usr/lib"; ln -s lib "$root/lib64"
chmod 1777 "$root/tmp"

# library NAME: where it is below the sysroot.
library() {
	local dir
	for dir in lib/x86_64-linux-gnu usr/lib/x86_64-linux-gnu lib/aarch64-linux-gnu usr/lib/aarch64-linux-gnu \
		usr/aarch64-linux-gnu/lib lib lib64 usr/lib; do
		if [ -e "$sysroot/$dir/$1" ]; then realpath "$sysroot/$dir/$1"; return; fi
	done
	return 1
}

case $kernel in *arm64*) readonly arch=arm64 strip=aarch64-linux-gnu-strip ;; *) readonly arch=amd64 strip=strip ;; esac

# take HOST GUEST: copies a file with the libraries that it needs. Debug information stays behind.
take() {
	local host=$1 guest=$root/$2 name
	[ ! -e "$guest" ] || return 0
	mkdir -p "$(dirname "$guest")"
	cp -L "$host" "$guest"
	file=$(head -c 4 "$host" | tr -d '\0') || true
	if [ "$file" != $'\x7fELF' ]; then return 0; fi
	chmod u+w "$guest"
	$strip --strip-debug "$guest" 2>/dev/null || true
	for name in $(readelf -d "$host" 2>/dev/null | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p') \
		$(readelf -l "$host" 2>/dev/null | sed -n 's,.*interpreter: .*/\([^/]*\)\],\1,p'); do
		if [ ! -e "$root/lib/$name" ]; then take "$(library "$name" || { echo "machine.sh: no $name for $host" >&2; exit 125; })" "lib/$name"; fi
	done
}

# Real programs, as an applet of busybox is called by its name and tests give processes other names.
for program in bash dash cat chmod cp cut date dd echo env false head id kill ln ls mkdir mkfifo mv nice nproc printf readlink rm \
	rmdir seq sleep sort stat sync tail tee test timeout touch tr true uname wc yes grep sed unshare setpriv ps mount umount \
	fusermount3 nsenter ip prlimit script; do
	for dir in usr/bin bin usr/sbin sbin; do
		if [ -f "$sysroot/$dir/$program" ]; then take "$sysroot/$dir/$program" "bin/$program"; break; fi
	done
done
ln -s dash "$root/bin/sh"
busybox=$(find "$sysroot/usr/bin/busybox" "$sysroot/bin/busybox" 2>/dev/null | head -n 1 || true)
take "$busybox" bin/busybox
[ ! -e "$root/lib/ld-linux-aarch64.so.1" ] || mkdir -p "$root/lib/aarch64-linux-gnu"
for file in "${files[@]}"; do
	case $file in
		*=*) take "${file%%=*}" "${file#*=}" ;;
		*) if [ -d "$file" ]; then cp -rL "$file" "$root/work/"; else take "$file" "work/$(basename "$file")"; fi ;;
	esac
done

# What tests need and a kernel may have as modules; none of them needs another.
find "$kernel/modules" \( -name 'fuse.ko*' -o -name 'veth.ko*' -o -name 'dummy.ko*' -o -name 'overlay.ko*' \) \
	-exec cp -t "$root/lib/modules" {} +
find "$root/lib/modules" -name '*.xz' -exec xz -d {} +
find "$root/lib/modules" -name '*.zst' -exec zstd -qd --rm {} +
printf 'root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"

cat >"$root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin 2>/dev/null
export PATH=/bin:/work HOME=/root TMPDIR=/tmp LC_ALL=C
mkdir -p /root /dev/shm /dev/pts
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=1777,size=90% tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t securityfs securityfs /sys/kernel/security 2>/dev/null
mount -t cgroup2 cgroup2 /sys/fs/cgroup 2>/dev/null
ip link set lo up 2>/dev/null
for module in /lib/modules/*.ko; do insmod "$module"; done
echo 131072 >/proc/sys/kernel/pid_max
echo "machine: $(uname -r) $(uname -m), $(nproc) processors, up after $(cut -d' ' -f1 /proc/uptime) s"
cd /work
/bin/bash /command </dev/null
status=$?
dmesg | grep -E 'WARNING:|BUG:|Call Trace' && echo "machine: the kernel warned"
echo "machine: status $status"
sync
poweroff -f
INIT
chmod 755 "$root/init"
printf '%s\n' "$command" >"$root/command"
(cd "$root" && find . | cpio -o -H newc --quiet) >"$work/initrd"

append="panic=-1 oops=panic $panic quiet loglevel=4 $append"
case $arch in
	amd64)
		run=(qemu-system-x86_64 -machine q35 -accel tcg,thread=multi -cpu "${cpu:-max},la57=$la57")
		append="console=ttyS0 $append" ;;
	arm64)
		run=(qemu-system-aarch64 -machine virt,gic-version=3 -accel tcg,thread=multi -cpu "${cpu:-cortex-a76}")
		append="console=ttyAMA0 $append" ;;
esac
smp=$cpus
[ -z "$possible" ] || smp=$cpus,maxcpus=$possible
# The log of the machine is the output, less what is not of the command.
"${run[@]}" -smp "$smp" -m "$memory" -kernel "$kernel/vmlinuz" -initrd "$work/initrd" -append "$append" \
	-display none -serial stdio -monitor none -no-reboot -nic none </dev/null 2>&1 |
	timeout "$seconds" tee "$work/log" | tr -d '\r' &
job=$!
wait "$job" || true
status=$(tr -d '\r' <"$work/log" | sed -n 's/^machine: status \([0-9]*\)$/\1/p' | tail -n 1)
if [ -z "$status" ]; then
	echo "machine.sh: $version did not come to the end of the command" >&2
	exit 125
fi
if grep -q '^machine: the kernel warned' "$work/log"; then exit 125; fi
exit "$status"
