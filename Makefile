# Two commands do everything on a Debian machine with Rust: `make run` and `make test`. `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.NOTPARALLEL:
.DEFAULT_GOAL := help

# rustup puts cargo here; a shell that was open during its installation doesn't know that yet.
export PATH := $(PATH):$(HOME)/.cargo/bin

PREFIX  ?= /usr/local
DESTDIR ?=
BINDIR  ?= $(PREFIX)/bin
UNITDIR ?= $(PREFIX)/lib/systemd/system
DOCDIR  ?= $(PREFIX)/share/doc/task-diag
DOCS    := README.md CHANGELOG.md SECURITY.md LICENSE-MIT LICENSE-APACHE docs/protocol.md docs/adopting.md docs/deployment.md docs/troubleshooting.md
INCLUDEDIR   ?= $(PREFIX)/include
PKGCONFIGDIR ?= $(PREFIX)/share/pkgconfig
MANDIR       ?= $(PREFIX)/share/man
BASHDIR      ?= $(PREFIX)/share/bash-completion/completions
ZSHDIR       ?= $(PREFIX)/share/zsh/site-functions
FISHDIR      ?= $(PREFIX)/share/fish/vendor_completions.d

CARGO       ?= cargo
CARGO_FLAGS ?= --locked
# For the test programs themselves: make test TEST_ARGS=--nocapture
TEST_FLAGS  ?=
TEST_ARGS   ?=
TARGET      := $(or $(CARGO_TARGET_DIR),target)
BINARY      := $(TARGET)/release/task-diag
VERSION     := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)

# The examples in C, and where they are built.
CC         ?= cc
CFLAGS     ?= -O2 -g -Wall -Wextra
EXAMPLES   ?= $(TARGET)/c
C_EXAMPLES := $(addprefix $(EXAMPLES)/,task_diag_ps task_diag_decode)

# fuse3 holds fusermount3, with which ordinary users mount. The rest compiles and links: Rust itself wants gcc,
# eBPF programs want clang and what libbpf needs.
DEPS       := fuse3 gcc libc6-dev make pkg-config clang libelf-dev zlib1g-dev
# Tests also compile C with every compiler's sanitizers, and compare the client in Python with psutil.
TEST_DEPS  := libclang-rt-dev python3 python3-psutil
# Emulated machines boot the kernels of other Debian releases, for this processor and for arm64.
KERNEL_DEPS := qemu-system-x86 qemu-system-arm debootstrap cpio busybox-static curl xz-utils zstd binutils-aarch64-linux-gnu \
	procps iproute2 util-linux bsdutils
EXTRA_DEPS ?=
# make SKIP_DEPS=1 ... leaves system packages alone.
SKIP_DEPS  ?=

.PHONY: help deps test-deps rust build build-arm64 run test test-kernels test-compilers examples lint install uninstall clean

help: ## Show this list
	@echo "make TARGET, where TARGET is one of"
	sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20
	echo "Variables: PREFIX=$(PREFIX) DESTDIR=$(DESTDIR) UNITDIR=$(UNITDIR) CARGO_FLAGS=$(CARGO_FLAGS) TEST_ARGS=$(TEST_ARGS) SKIP_DEPS=$(SKIP_DEPS)"

deps: ## Install the system packages that are missing (Debian and its kin; elsewhere say which)
	@packages="$(DEPS) $(EXTRA_DEPS)"
	if [ -n "$(SKIP_DEPS)" ]; then exit 0; fi
	if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
		for command in fusermount3 cc clang pkg-config; do
			command -v "$$command" >/dev/null || echo "deps: $$command is not there" >&2
		done
		echo "deps: no apt-get here; if the build or the tests miss something, install what Debian calls: $$packages" >&2
		exit 0
	fi
	missing=()
	for package in $$packages; do
		status=$$(dpkg-query -W -f '$${db:Status-Status}' "$$package" 2>/dev/null || true)
		[ "$$status" = installed ] || missing+=("$$package")
	done
	[ $${#missing[@]} -gt 0 ] || exit 0
	echo "deps: installing $${missing[*]}"
	as_root=()
	if [ "$$(id -u)" -ne 0 ]; then
		if ! command -v sudo >/dev/null; then
			echo "deps: neither root nor sudo; run as root: apt-get install $${missing[*]} (SKIP_DEPS=1 goes on without)" >&2
			exit 1
		fi
		as_root=(sudo)
	fi
	apt() {
		"$${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$$@"
	}
	if ! apt update || ! apt install --no-install-recommends "$${missing[@]}"; then
		echo "deps: apt-get failed, see above (SKIP_DEPS=1 goes on without)" >&2
		exit 1
	fi

test-deps:
	@$(MAKE) --no-print-directory deps EXTRA_DEPS="$(EXTRA_DEPS) $(TEST_DEPS)"

rust:
	@if ! command -v $(CARGO) >/dev/null; then
		echo "cargo is not there; install Rust first: https://rustup.rs" >&2
		exit 1
	fi

build: deps rust ## Build the release binary
	@$(CARGO) build --release $(CARGO_FLAGS) --bin task-diag

build-arm64: rust ## Build the release binary for arm64 on another processor (as root): target/arm64/.../task-diag
	@$(MAKE) --no-print-directory deps DEPS=debootstrap
	tests/kernels/cross.sh cargo build --release $(CARGO_FLAGS) --bin task-diag
	ls target/arm64/*/release/task-diag

run: build ## Mount in a temporary directory, dump every process through it, measure against /proc, unmount
	@say() { printf '\n== %s\n' "$$*"; }
	if [ ! -e /dev/fuse ] && ! { [ "$$(id -u)" -eq 0 ] && modprobe fuse 2>/dev/null && [ -e /dev/fuse ]; }; then
		echo "run: /dev/fuse is not there; load the module (modprobe fuse), or give the container that device" >&2
		exit 1
	fi
	work=$$(realpath "$$(mktemp -d "$${TMPDIR:-/tmp}/task-diag-run.XXXXXX")")
	dir=$$work/mount
	daemon= client=
	mounted() { grep -Fq " $${dir// /\\040} fuse" /proc/self/mounts; }
	# In the background, so that a signal is answered at once.
	ask() {
		"$(BINARY)" "$$@" --path "$$dir/task_diag" &
		client=$$!
		wait "$$client"
		client=
	}
	clean_up() {
		status=$$?
		trap '' INT TERM HUP
		trap - EXIT
		[ -z "$$client" ] || kill -TERM "$$client" 2>/dev/null || true
		if [ -n "$$daemon" ] && kill -TERM "$$daemon" 2>/dev/null; then
			for _ in $$(seq 50); do
				kill -0 "$$daemon" 2>/dev/null || break
				sleep 0.1
			done
			kill -KILL "$$daemon" 2>/dev/null || true
		fi
		[ -z "$$daemon" ] || wait "$$daemon" 2>/dev/null || true
		if mounted; then
			umount -l "$$dir" 2>/dev/null || fusermount3 -uz "$$dir" || status=1
		fi
		rmdir "$$dir" 2>/dev/null || true
		rm -rf --one-file-system "$$work"
		if [ "$$status" -eq 0 ]; then say "Done: unmounted, nothing left behind"; else say "FAILED (status $$status)" >&2; fi
		exit "$$status"
	}
	trap clean_up EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	mkdir "$$dir"

	say "Mounting at $$dir"
	RUST_LOG=$${RUST_LOG:-warn} "$(BINARY)" mount "$$dir" 2>"$$work/log" &
	daemon=$$!
	for _ in $$(seq 100); do
		[ ! -e "$$dir/task_diag" ] || break
		kill -0 "$$daemon" 2>/dev/null || break
		sleep 0.05
	done
	if [ ! -e "$$dir/task_diag" ]; then
		echo "run: the daemon doesn't serve; it says:" >&2
		cat "$$work/log" >&2
		exit 1
	fi
	grep -E '^(version|source|kernel):' "$$dir/info"

	say "Dumping every process through the mount"
	ask all --cred --stat --statm --cmdline >"$$work/dump"
	count=$$(grep -c '^ *[0-9]' "$$work/dump" || true)
	head -n 11 "$$work/dump" | cut -c -150
	echo "... $$count processes in all, $$(wc -c <"$$work/dump") bytes of text"
	if [ "$$count" -eq 0 ]; then
		echo "run: the dump is empty" >&2
		exit 1
	fi

	say "Comparing the time with reading /proc for the same"
	ask bench

	say "Unmounting"
	kill -TERM "$$daemon"
	if ! wait "$$daemon"; then
		echo "run: the daemon ended badly; it says:" >&2
		cat "$$work/log" >&2
		exit 1
	fi
	daemon=
	if mounted; then
		echo "run: the mount outlived its daemon" >&2
		exit 1
	fi

test: test-deps rust ## Run every test, those in the documentation too
	@$(CARGO) test $(CARGO_FLAGS) $(TEST_FLAGS) -- $(TEST_ARGS)

test-kernels: rust ## Run the tests on other kernels, in emulated machines (KERNELS="trixie/amd64 ..." for some, SHORT=1 for the short form)
	@$(MAKE) --no-print-directory test-deps EXTRA_DEPS="$(EXTRA_DEPS) $(KERNEL_DEPS)"
	tests/kernels/run.sh $(if $(SHORT),--short) $(KERNELS)

test-compilers: rust ## Compile the BPF programs with every clang there is, and load them (CLANGS="clang-16 sid/clang-22 ..." for some)
	@$(MAKE) --no-print-directory deps EXTRA_DEPS="$(EXTRA_DEPS) debootstrap"
	tests/kernels/compilers.sh $(CLANGS)

examples: $(C_EXAMPLES) ## Build the examples in C

$(EXAMPLES)/%: examples/c/%.c include/task_diag.h
	@mkdir -p "$(@D)"
	$(CC) -std=c99 $(CFLAGS) $(LDFLAGS) -Iinclude -o "$@" "$<"

lint: rust ## Check the form of the code, and clippy's warnings
	@$(CARGO) fmt --all --check
	$(CARGO) clippy $(CARGO_FLAGS) --all-targets -- -D warnings

# Built only where it is not there, so that `sudo make install` after `make build` needs no cargo.
$(BINARY):
	@$(MAKE) build

install: $(BINARY) ## Install binary, C header, unit, man pages, completions and documents below DESTDIR and PREFIX
	@install -D -m 755 "$(BINARY)" "$(DESTDIR)$(BINDIR)/task-diag"
	install -d "$(DESTDIR)$(UNITDIR)" "$(DESTDIR)$(DOCDIR)" "$(DESTDIR)$(INCLUDEDIR)" "$(DESTDIR)$(PKGCONFIGDIR)"
	install -m 644 include/task_diag.h "$(DESTDIR)$(INCLUDEDIR)/"
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' -e 's|@VERSION@|$(VERSION)|' \
		include/task_diag.pc.in >"$(DESTDIR)$(PKGCONFIGDIR)/task_diag.pc"
	chmod 644 "$(DESTDIR)$(PKGCONFIGDIR)/task_diag.pc"
	sed -e 's|/usr/local/bin/|$(BINDIR)/|g' -e 's|/usr/local/share/doc/task-diag|$(DOCDIR)|g' \
		systemd/task-diag.service >"$(DESTDIR)$(UNITDIR)/task-diag.service"
	chmod 644 "$(DESTDIR)$(UNITDIR)/task-diag.service"
	install -m 644 $(DOCS) "$(DESTDIR)$(DOCDIR)/"
	made=$$(mktemp -d)
	trap 'rm -rf "$$made"' EXIT
	"$(BINARY)" shell-files "$$made"
	install -d "$(DESTDIR)$(MANDIR)/man1"
	install -m 644 "$$made"/man1/*.1 "$(DESTDIR)$(MANDIR)/man1/"
	install -D -m 644 "$$made/completions/task-diag.bash" "$(DESTDIR)$(BASHDIR)/task-diag"
	install -D -m 644 "$$made/completions/_task-diag" "$(DESTDIR)$(ZSHDIR)/_task-diag"
	install -D -m 644 "$$made/completions/task-diag.fish" "$(DESTDIR)$(FISHDIR)/task-diag.fish"
	echo "installed: $(DESTDIR)$(BINDIR)/task-diag $(DESTDIR)$(UNITDIR)/task-diag.service $(DESTDIR)$(DOCDIR)/" \
		"$(DESTDIR)$(INCLUDEDIR)/task_diag.h $(DESTDIR)$(PKGCONFIGDIR)/task_diag.pc"
	[ -n "$(DESTDIR)" ] || echo "to start it: systemctl daemon-reload && systemctl enable --now task-diag"

uninstall: ## Remove what install put there, with the same DESTDIR and PREFIX
	@rm -f "$(DESTDIR)$(BINDIR)/task-diag" "$(DESTDIR)$(UNITDIR)/task-diag.service"
	rm -f "$(DESTDIR)$(INCLUDEDIR)/task_diag.h" "$(DESTDIR)$(PKGCONFIGDIR)/task_diag.pc"
	rm -f $(addprefix "$(DESTDIR)$(DOCDIR)"/,$(notdir $(DOCS)))
	rm -f "$(DESTDIR)$(MANDIR)/man1"/task-diag.1 "$(DESTDIR)$(MANDIR)/man1"/task-diag-*.1
	rm -f "$(DESTDIR)$(BASHDIR)/task-diag" "$(DESTDIR)$(ZSHDIR)/_task-diag" "$(DESTDIR)$(FISHDIR)/task-diag.fish"
	# Directories go if nothing else is in them; below DESTDIR up to its top, on the machine itself only our own.
	drop() { [ ! -d "$$1" ] || rmdir "$${@:2}" --ignore-fail-on-non-empty "$$1"; }
	if [ -n "$(DESTDIR)" ]; then
		[ -d "$(DESTDIR)" ] || exit 0
		cd "$(DESTDIR)"
		for dir in ".$(BINDIR)" ".$(UNITDIR)" ".$(DOCDIR)" ".$(INCLUDEDIR)" ".$(PKGCONFIGDIR)" \
			".$(MANDIR)/man1" ".$(BASHDIR)" ".$(ZSHDIR)" ".$(FISHDIR)"; do
			drop "$${dir#./}" -p
		done
	else
		drop "$(DOCDIR)"
		drop "$(UNITDIR)"
	fi

clean: ## Remove what was built
	@$(CARGO) clean
	rm -rf fuzz/target
