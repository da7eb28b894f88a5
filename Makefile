# `make test` is everything CI runs.
.PHONY: test
test:
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	cargo test --locked
