# The commands of this repository; CI runs the same (.ci/run).
.DEFAULT_GOAL := help
.PHONY: help demo blog test test-fast lint lint-features fmt bench bench-images bench-orm soak mutants fuzz deny-install clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# A debug build: it is there in a third of the time, and the demo deletes a dozen files.
demo: ## the story of two bindings, on SQLite and a folder
	cargo build --quiet --locked -p rowbound-cli
	cargo run --quiet --locked -p rowbound-cli -- demo

# It processes pictures without C code, so it needs neither cmake nor nasm.
blog: ## a blog to click through, at http://127.0.0.1:3000; ARGS="8000 FOLDER" for another port and folder
	cargo run --quiet --locked -p rowbound-blog -- $(ARGS)

test: ## every test, on SQLite, PostgreSQL, MariaDB, MySQL and S3 (Garage with GARAGE)
	ROWBOUND_TEST_ROOM=$$(scripts/test-room) scripts/with-test-servers scripts/test

test-fast: ## the short tests, on SQLite and a folder
	scripts/cargo-tool nextest
	scripts/image-tools
	cargo nextest run --workspace --locked --features rowbound-cli/images --profile fast

lint: ## format, clippy, rustdoc, licences
	scripts/lint

lint-features: ## clippy for each database alone, and for none
	for database in "" sqlite postgres mysql; do \
		cargo clippy -p rowbound -p rowbound-files -p rowbound-web --no-default-features --features "$$database" --locked --quiet -- -D warnings || exit 1; \
	done

fmt: ## format the code
	cargo fmt --all

bench: ## the benchmarks, on all databases; ARGS="settle --rows 10000" for a part
	scripts/with-test-servers cargo bench --locked -p rowbound-cli --bench rowbound -- $(ARGS)

bench-images: ## thumbnails of 200 pictures: CPU and memory of ours, Pillow with pilkit and sharp
	scripts/bench-images

bench-orm: ## select.delete of rowbound-orm beside the bare SQL, on all databases
	scripts/image-tools
	scripts/with-test-servers cargo bench --locked -p rowbound-orm --bench delete

soak: ## the long tests that `make test` leaves out
	scripts/cargo-tool nextest
	scripts/image-tools
	scripts/with-test-servers cargo nextest run --workspace --locked --features rowbound-cli/images --profile soak --run-ignored only -E 'test(soak)$(if $(GARAGE),, and not test(/^garage::/))'

mutants: ## the code with one rule of it taken out: a test must notice each; ARGS="recheck second_barrier" for a part
	scripts/with-test-servers scripts/mutants $(ARGS)

fuzz: ## decoders and names under libFuzzer, ten minutes each; ARGS="60 names" for a part
	scripts/fuzz $(ARGS)

deny-install: ## install cargo-deny, which `make lint` needs
	scripts/cargo-tool deny

clean: ## remove what was built
	cargo clean
