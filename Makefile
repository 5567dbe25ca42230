# What one types; the work is done by the scripts and by cargo.

.PHONY: run test check bench bench-quick fmt

run:    ## build and serve, with sample data on the first start
	@scripts/run

test:   ## all tests, on a database of their own
	@scripts/ensure-postgres DEVHUB_TEST_DATABASE_URL
	cargo test --locked

check:  ## what CI runs
	cargo fmt --check
	cargo fmt --check --manifest-path benches/others/Cargo.toml
	cargo clippy --locked --all-targets -- -D warnings
	@# benches/others is not built here, and shares this file: it would not find what it imports of this crate
	@! grep -nE '(crate|super)::' benches/peers/writers.rs
	@$(MAKE) --no-print-directory test
	scripts/check-dependencies
	scripts/check-generated

bench:  ## measure beside the peers of the same run
	@scripts/ensure-postgres DEVHUB_BENCH_DATABASE_URL
	@scripts/build-bench-others
	cargo bench --locked --profile dist --bench peers
	cargo bench --locked --profile dist --bench throughput
	cargo bench --locked --profile dist --bench legacy

bench-quick:  ## the shape of it in two minutes; writes nothing
	@scripts/ensure-postgres DEVHUB_BENCH_DATABASE_URL
	@scripts/build-bench-others
	cargo bench --locked --profile dist --bench peers -- quick

fmt:    ## lay out the sources
	cargo fmt
	cargo fmt --manifest-path benches/others/Cargo.toml
