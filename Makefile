.DEFAULT_GOAL := help
.NOTPARALLEL:

# Leaves a recipe whose tool $(1) is missing: loudly on a laptop, as a failure in CI.
need = command -v $(1) >/dev/null || { echo "SKIPPED: $(1) is missing; to install it: $(2)" >&2; test -z "$$CI"; exit; }

# Which tests use the database without being about one.
on_postgres = package(system-tests) and not binary(/^(access|cancellation|chaos|client_pages|cluster|conformance|crash|detection|docs|faults|hardening|health|image|large_requests|layering|linearizable|manifests|measurements|models|mutations|observability|openbao|paced_streams|postgres|reference|replay|request_bodies|restore|rotation|secrets_manager|telemetry|third_party|vault_outage|watch)$$/)

# Opens the doors of the micro-benchmarks. Over the whole workspace, so that dependencies are those of the other builds.
benchmarks = --workspace --features chat-gateway/benchmarks,key-vault/benchmarks --locked

# The load tool, on the services beside it. BENCH= passes options, such as --only=chats.
measured = PATH="$$PATH:$$(echo /usr/lib/postgresql/*/bin | tr ' ' ':')" $${CARGO_TARGET_DIR:-target}/image/bench

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "%-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## Build both services and run them for development, until Ctrl-C
	cargo build --locked -p key-vault -p chat-gateway
	@bin=$${CARGO_TARGET_DIR:-target}/debug; $$bin/key-vault serve --dev & vault=$$!; $$bin/chat-gateway serve --dev & gateway=$$!; \
	stop=; trap 'stop=1' INT; trap 'stop=1; kill $$vault $$gateway' TERM; while kill -0 $$vault && kill -0 $$gateway; do sleep 0.2; done 2>/dev/null; \
	test -n "$$stop" || kill $$vault $$gateway 2>/dev/null; wait $$vault && wait $$gateway

demo: ## Start both services, store keys, stream answers, stop
	cargo build --locked -p system-tests --bins
	cargo run --quiet --locked -p system-tests --bin demo

test: test-sqlite test-postgres ## All tests, those that use the database on both

test-sqlite: ## Doctests, which nextest does not run, then all other tests, then what a streamed chunk allocates
	cargo test --workspace --doc --locked
	@if command -v cargo-nextest >/dev/null; then cargo nextest run --workspace --locked $${CI:+--profile ci}; \
	else cargo test --workspace --lib --bins --tests --locked; fi
	cargo test $(benchmarks) --test allocations -- --nocapture

test-postgres: export SYSTEM_TESTS_DATABASE = postgres
test-postgres: export RESOLUTION_MODEL_SEQUENCES ?= 80
test-postgres: ## The tests that use the database, on PostgreSQL; those about PostgreSQL itself are in test-sqlite
	@PATH="$$PATH:$$(echo /usr/lib/postgresql/*/bin | tr ' ' ':')"; $(call need,initdb,apt-get install postgresql); \
	if command -v cargo-nextest >/dev/null; then cargo nextest run --workspace --locked $${CI:+--profile ci} -E '$(on_postgres)'; \
	else cargo test -p system-tests --tests --locked; fi

check: fmt lint doc deny proto test newcomer ## Everything CI runs, in CI's order

newcomer: ## A fresh clone, `make run`, the first answer; the secrets of production, its manifests: by the commands of the pages
	NEWCOMER_WARM="$${CARGO_TARGET_DIR:-target}" tests/newcomer/run.sh

bench: bench-build ## Both services as they are deployed, beside the limits of the same machine: the table of docs/performance.md
	$(measured) run --services $${CARGO_TARGET_DIR:-target}/image $(BENCH)

bench-check: bench-build ## Fails if a ratio to a limit is more than 15 % worse than in bench/baseline.json
	$(measured) check --services $${CARGO_TARGET_DIR:-target}/image $(BENCH)

bench-scale: bench-build ## What a resolution costs in PostgreSQL with a thousand keys, and with a million
	$(measured) scale --services $${CARGO_TARGET_DIR:-target}/image $(BENCH)

bench-build: # As the images are built
	cargo build --locked --profile image -p key-vault -p chat-gateway -p system-tests --bin key-vault --bin chat-gateway --bin bench

bench-pictures: ## Draw docs/pictures/performance-*.svg anew from bench/results
	@python3 -c 'import matplotlib' || { echo "matplotlib is missing; to install it: pip install matplotlib" >&2; exit 1; }; python3 bench/plot.py

conformance: ## Only what the providers' recorded traffic must come to
	cargo test --locked -p system-tests --test conformance -- --nocapture

faults: ## Only what comes of the faults of providers, with waits as long as they are in life
	FAULTS_FULL=1 cargo test --locked -p system-tests --test faults -- --nocapture --test-threads 1

dashboards-picture: ## Draw docs/pictures/dashboards.png anew: the panels of the dashboards after a bad night
	@$(call need,prometheus,apt-get install prometheus); python3 -c 'import matplotlib' || { echo "matplotlib is missing; to install it: pip install matplotlib" >&2; exit 1; }; \
	DASHBOARDS_PICTURE="$$PWD/docs/pictures/dashboards.png" cargo test --locked -p system-tests --test observability -- --nocapture live

soak: export SOAK ?= 1
soak: ## Only what is worth hours: crashes, replicas, watches, rotations, stale keys, slow streams; minutes with SOAK=short
	cargo test --locked -p system-tests --test crash --test linearizable --test watch --test rotation --test freshness --test paced_streams -- --nocapture --test-threads 1

bench-micro: ## Micro-benchmarks: event streams, answers of each API, names of models, seals; two minutes
	cargo bench $(benchmarks) --bench relay --bench seal

fmt: ## Formatting
	cargo fmt --all --check

lint: ## Clippy, warnings are errors
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo clippy $(benchmarks) --bench relay --bench seal --test allocations -- -D warnings

doc: ## Rustdoc, private items too, warnings are errors
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked

deny: ## Licences, sources, duplicate and banned crates
	@$(call need,cargo-deny,cargo install --locked cargo-deny@0.20.2); cargo deny --locked check bans licenses sources

proto: ## Lint the contract, its form too, and compare it with its baseline
	@$(call need,buf,npm install --global @bufbuild/buf@1.75.0); buf lint proto && buf format proto --diff --exit-code && buf breaking proto --against proto/baseline.binpb

pictures: ## Draw docs/pictures/trace.png anew: a chat through both services, as Arize Phoenix shows it
	@$(call need,phoenix,pip install arize-phoenix==20.26.1 in an environment of its own); $(call need,chromium,apt-get install chromium); \
	TRACE_PICTURE="$$PWD/docs/pictures/trace.png" cargo test --locked -p system-tests --test telemetry phoenix -- --nocapture

man: ## Write the manual pages of both binaries into target/dist/man
	cargo build --locked -p key-vault -p chat-gateway
	@bin=$${CARGO_TARGET_DIR:-target}; for of in key-vault chat-gateway; do $$bin/debug/$$of manual --directory $$bin/dist/man/man1 || exit; done; ls $$bin/dist/man/man1

completions: ## Write the completions of both binaries for bash, zsh and fish into target/dist/completions
	cargo build --locked -p key-vault -p chat-gateway
	@bin=$$(realpath $${CARGO_TARGET_DIR:-target}); cd $$bin && mkdir -p dist/completions && for of in key-vault chat-gateway; do \
	PATH="$$bin/debug:$$PATH"; $$of completions bash > dist/completions/$$of.bash && $$of completions zsh > dist/completions/_$$of && $$of completions fish > dist/completions/$$of.fish || exit; done; ls dist/completions

generate: ## Write all code and all documents anew that are made from others: of the contract, the policies, the options, the pages for clients
	GENERATE=1 cargo test --locked -p proto --test generated --test reference -- committed the_pages
	GENERATE=1 cargo test --locked -p system-tests --test reference --test client_pages -- the_document_says the_programs
	GENERATE=1 cargo test --locked -p key-vault -p chat-gateway --lib -- the_committed_schema the_document_says

image: ## Build the images of both services with Docker, Podman or buildah; BASE= pins what they are built on
	deploy/image/build.sh image

sbom: image ## Build the images and write what is in them, as CycloneDX, to target/image
	@$(call need,trivy,see https://trivy.dev); deploy/image/build.sh sbom

breaking-baseline: ## Promise the contract as it is now. Before the first release only
	buf build proto -o proto/baseline.binpb

.PHONY: help run demo test test-sqlite test-postgres check newcomer conformance bench bench-check bench-scale bench-build bench-pictures faults dashboards-picture soak bench-micro fmt lint doc deny proto pictures generate image sbom man completions breaking-baseline
