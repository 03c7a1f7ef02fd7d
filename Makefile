# The README's two commands are `make run` and `make test`. The work is done in scripts/.

.DEFAULT_GOAL := help
.PHONY: help run test ci build dist install uninstall fmt bench clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## build, bring an upstream where there is none, start the gateway (ARGS="--port 9000")
	@exec scripts/run.sh $(ARGS)

test: ## unit, integration and end-to-end tests; installs what they need
	@exec scripts/test.sh

ci: ## make test, and the lints
	@exec scripts/ci.sh

build: ## the release binary of the gateway
	@scripts/ensure.sh rust cc
	@cargo build --release

dist: ## an archive of a release in dist/: static binary, manual, completions, bill of materials (ARGS=--twice compares two builds)
	@exec scripts/dist.sh $(ARGS)

install: ## the built binary, manual, completions and systemd unit to PREFIX=/usr/local [DESTDIR=]
	@PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' exec scripts/install.sh install

uninstall: ## take them away again
	@PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' exec scripts/install.sh uninstall

fmt: ## format the Rust code
	@cargo fmt --all

bench: ## side by side with nginx (prints the ratios)
	@exec scripts/bench.sh

clean: ## remove everything that was built
	@cargo clean
