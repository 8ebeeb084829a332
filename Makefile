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

.PHONY: all run test check soak crash install clean

all:
	cargo rustc --release --bin st -- $(STATIC)

run: all
	./target/release/st server $(PORT)

test:
	cargo test

check:
	cargo fmt --check
	cargo clippy --all-targets --test crash --test power --test soak -- -D warnings
	cargo test
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

# Two minutes of hostile load, in figures. It opens up to 10,000 connections, as far as `ulimit -n` allows.
soak:
	cargo test --release --test soak -- --nocapture

# Kills the server at each system call of its journal, has each of them fail, and plays power failures. It needs strace.
crash:
	cargo test --release --test power --test crash -- --nocapture

install: all
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 755 target/release/st $(DESTDIR)$(PREFIX)/bin/st

clean:
	cargo clean
