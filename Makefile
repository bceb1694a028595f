# Short names for the commands of README.md and CONTRIBUTING.md.
.PHONY: run demo test fast redis mesh slow lint docs book bench fuzz

run: ## Start a server with an example configuration; needs no Redis
	cargo run --profile quick -- serve --config envoy/ratelimit.yaml

demo: ## Start a server and an Envoy in front of it
	envoy/demo

test: ## Install what the tests need and run all checks
	tests/run

fast redis mesh slow lint docs: ## Run one tier of the tests, the lints, or the API documentation
	tests/run $@

book: ## Build the documentation; needs mdbook
	mdbook build

bench: ## Measure the server (20 minutes on an idle machine)
	benches/run

fuzz: ## Fuzz the parsers for a minute each; needs cargo-fuzz and the nightly compiler
	for target in configuration frames request_to_key; do \
		cargo +nightly fuzz run $$target -- -max_total_time=60 || exit 1; \
	done
