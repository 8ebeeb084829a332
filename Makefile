# `make` builds one static binary; everything else here is a short name for a cargo command.
PREFIX ?= /usr/local
PORT ?= 7777

# Statically linked on Linux, so that the binary runs on any box and in an empty chroot: glibc, by a
# target feature, because it needs no second target (the musl one must be downloaded) and because
# musl's allocator serialises threads. glibc's own name lookup works there without
# shared libraries for files and DNS; `localhost` and IP addresses are answered by st itself. The feature
# is set here and not in .cargo/config.toml, so that a plain `cargo build` works where the static
# libc is not installed, and on macOS, which has none.
ifeq ($(shell uname -s),Linux)
STATIC = -C target-feature=+crt-static -C relocation-model=static
endif

.PHONY: all run test check soak crash bench dist install clean

all:
	cargo rustc --release --bin st -- $(STATIC)

run: all
	./target/release/st server $(PORT)

test:
	cargo test

check:
	cargo fmt --check
	cargo clippy --all-targets --test bench --test crash --test power --test soak -- -D warnings
	cargo test
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

# Two minutes of hostile load, in figures. It opens up to 10,000 connections, as far as `ulimit -n` allows.
soak:
	cargo test --release --test soak -- --nocapture

# Kills the server at each system call of its journal, has each of them fail, and plays power failures. It needs strace.
crash:
	cargo test --release --test power --test crash -- --nocapture

# README's table of rates: st in its modes, and Redis and memcached beside it where they are installed.
bench:
	cargo test --release --test bench -- --nocapture

# Binaries to copy to other machines, with their checksums, for each musl target that is installed (`rustup target add
# x86_64-unknown-linux-musl`, say), else for this machine by glibc. The linker is the one that comes with Rust: it links for
# either processor, and is the same everywhere. Paths of this machine are replaced. So the same source and the same Rust
# give the same bytes in any directory.
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
MUSL = $(notdir $(patsubst %/lib,%,$(wildcard $(shell rustc --print sysroot)/lib/rustlib/*-unknown-linux-musl/lib)))
MUSL_FLAGS = -C linker=rust-lld -C relocation-model=static
REMAP = --remap-path-prefix=$(CURDIR)=.
DIST = target/dist

dist: $(or $(MUSL),$(shell rustc -vV | sed -n 's/^host: //p'))

%-unknown-linux-musl %-unknown-linux-gnu:
	RUSTFLAGS="$(if $(findstring musl,$@),$(MUSL_FLAGS),$(STATIC)) $(REMAP)" \
		cargo build --release --bin st --target $@ --target-dir target
	install -D -m 755 target/$@/release/st $(DIST)/st-$(VERSION)-$*-linux
	cd $(DIST) && sha256sum st-$(VERSION)-$*-linux > st-$(VERSION)-$*-linux.sha256

install: all
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 755 target/release/st $(DESTDIR)$(PREFIX)/bin/st

clean:
	cargo clean
