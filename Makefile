# k2sandbox: `make run` starts it, `make test` proves it, `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

LISTEN   ?= 127.0.0.1:8900
FUZZTIME ?= 30s
N        ?= 40
SANDBOXES ?= 200
SEED     ?= 1
DURATION ?= 2h
CLIENTS  ?= 20
SOAKED   ?= 2000
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

BIN    := $(CURDIR)/bin/k2sandbox
VENV   := $(CURDIR)/.venv
PY     := $(VENV)/bin/python
SCHEMA := $(CURDIR)/bin/schemathesis
COMPARE := $(CURDIR)/bin/compare
E2B := server/e2b/clients
JUPYTER := server/jupyter/clients
MCP := server/mcp/clients
STATIC := go run honnef.co/go/tools/cmd/staticcheck@v0.8.2

# The interpreter that tests with real kernels use: it has ipykernel and bash_kernel.
export K2_TEST_PYTHON := $(PY)

# The image of Debian that tests and the benchmark make sandboxes of.
export K2_TEST_DEBIAN := $(CURDIR)/bin/debian.tar

.PHONY: help build run demo wheel venv debian asked-for test check schema compare record fuzz bench chaos soak e2b jupyter mcp console console-e2e lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## the static binary, bin/k2sandbox
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o $(BIN) ./cmd/k2sandbox

# What npm has installed it notes in a file of its own.
console/node_modules/.package-lock.json: console/package.json console/package-lock.json
	cd console && npm ci --no-audit --no-fund --loglevel error
	touch $@

console: console/node_modules/.package-lock.json ## build, check and test the web console's page, and look whether what is committed of it is fresh
	cd console && npm run check && npm test && npm run build
	git diff --exit-code --stat -- server/console/dist
	test -z "$$(git status --porcelain -- server/console/dist)"

console-e2e: build venv console/node_modules/.package-lock.json ## drive the console in a browser (chromium in PATH): every screen, cuts, floods, attacks, axe, budgets (CONSOLE_SHOTS=doc/console: and take its pictures)
	cd console && K2_BINARY=$(BIN) K2_PYTHON=$(PY) CONSOLE_SHOTS=$(abspath $(CONSOLE_SHOTS)) npm run e2e

run: build ## set up everything and start the HTTP endpoint (LISTEN=HOST:PORT or unix:PATH)
	exec $(BIN) serve --listen $(LISTEN)

demo: build ## run an example through an endpoint of its own, and end
	python3 examples/demo.py $(BIN) bin/demo

# Nothing is linked to a C library: one program is for glibc and musl. Two builds of a commit give the same bytes.
wheel: venv ## the Python package in dist/: a wheel for each platform, with the program in it, and the sources
	rm -rf dist
	@version=$$(sed -n 's/__version__ = "\(.*\)"/\1/p' sdk/python/src/k2sandbox/_version.py); \
	for platform in amd64:x86_64 arm64:aarch64; do \
	  machine=$${platform#*:}; export K2SANDBOX_BINARY=$(CURDIR)/bin/$$machine/k2sandbox; \
	  export K2SANDBOX_PLATFORM=manylinux_2_17_$$machine.manylinux2014_$$machine.musllinux_1_1_$$machine; \
	  GOOS=linux GOARCH=$${platform%:*} CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$$version" \
	    -o $$K2SANDBOX_BINARY ./cmd/k2sandbox; \
	  (cd sdk/python && $(PY) -m hatchling build -t wheel -d $(CURDIR)/dist); \
	done; \
	cd sdk/python && $(PY) -m hatchling build -t sdist -d $(CURDIR)/dist

venv: $(VENV)/.ready

# The packages of the managed Python, and what only tests and checks need beside them.
$(VENV)/.ready: .ci/requirements.txt kernel/python/requirements.txt
	$(MAKE) build
	rm -rf $(VENV)
	managed=$$($(BIN) python); \
	"$$managed" -m venv $(VENV); \
	install() { "$$managed" -m uv pip install --quiet --require-hashes --python $(PY) \
	  -r kernel/python/requirements.txt -r .ci/requirements.txt "$$@"; }; \
	install --system-certs || install
	$(PY) -m bash_kernel.install --sys-prefix
	touch $@

debian: build venv $(K2_TEST_DEBIAN) ## test sandboxes of a Debian, which debootstrap makes (MIRROR=, SUITE=: another than this machine's)
	go test -tags debian -count=1 -timeout 10m ./cmd/k2sandbox -run Debian

$(K2_TEST_DEBIAN): .ci/debian $(if $(MIRROR)$(SUITE),asked-for)
	.ci/debian $@

asked-for:

test: build venv ## every test, with real kernels and the race detector
	@command -v "$$(go env CC | cut -d" " -f1)" >/dev/null || { echo "make test needs a C compiler for the race detector: install gcc" >&2; exit 1; }
	CGO_ENABLED=1 go test -race -timeout 15m -p 2 ./...
	K2_TEST_ZYGOTE=1 CGO_ENABLED=1 go test -race -count 1 -timeout 10m -p 2 ./kernel ./agent ./server/inside
	go test -timeout 15m ./chaos -run Fleet -sandboxes 200
	$(PY) -m pytest kernel/python
	$(PY) -m pytest bench
	cd sdk/python && rm -f .coverage*; K2_TEST_BINARY=$(BIN) $(PY) -m coverage run -m pytest && $(PY) -m coverage combine -q && $(PY) -m coverage report

check: venv ## formatting, vet, staticcheck, ruff, mypy, go.mod
	@out=$$(gofmt -l .) && { test -z "$$out" || { echo "not gofmt:"; echo "$$out"; exit 1; } >&2; }
	go vet ./...
	go vet -tags soak ./chaos
	go vet -tags debian ./cmd/k2sandbox
	$(STATIC) ./...
	go mod tidy -diff
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy .
	cd server/e2b && $(PY) -m mypy --config-file ../../pyproject.toml clients
	cd server/jupyter && $(PY) -m mypy --config-file ../../pyproject.toml clients
	cd sdk/python && $(PY) -m mypy . && $(PY) unasync.py --check

# schemathesis and what it needs, kept apart from what the code and its tests need.
$(SCHEMA)/.ready: .ci/schemathesis.txt | venv
	rm -rf $(SCHEMA)
	$(PY) -m venv --without-pip $(SCHEMA)
	install() { $(PY) -m uv pip install --quiet --require-hashes --python $(SCHEMA)/bin/python -r .ci/schemathesis.txt "$$@"; }; \
	install --system-certs || install
	touch $@

schema: build venv $(SCHEMA)/.ready ## schemathesis over both documents in api/: it finds nothing (SEED=N)
	.ci/schema $(BIN) $(PY) $(SCHEMA)/bin/schemathesis --seed $(SEED)

# nbclient and papermill, which notebooks are compared with, and what those need.
$(COMPARE)/.ready: .ci/compare.txt | venv
	rm -rf $(COMPARE)
	$(PY) -m venv --without-pip $(COMPARE)
	install() { $(PY) -m uv pip install --quiet --require-hashes --python $(COMPARE)/bin/python \
	  -r kernel/python/requirements.txt -r .ci/compare.txt "$$@"; }; \
	install --system-certs || install
	touch $@

compare: build venv $(COMPARE)/.ready ## run notebooks with nbclient, papermill and k2sandbox: outputs are equal, but for what is known
	$(COMPARE)/bin/python notebook/compare/compare.py --k2sandbox $(BIN)

# Published E2B clients, each pair apart: two of different times from PyPI, one from npm.
bin/e2b-%/.ready: $(E2B)/%.txt | venv
	rm -rf $(@D)
	$(PY) -m venv --without-pip $(@D)
	install() { $(PY) -m uv pip install --quiet --require-hashes --python $(@D)/bin/python -r $< "$$@"; }; \
	install --system-certs || install
	touch $@

bin/e2b-js/.ready: $(E2B)/package.json $(E2B)/package-lock.json
	rm -rf $(@D)
	mkdir -p $(@D)
	cp $^ $(@D)
	npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund --loglevel error
	touch $@

e2b: build venv bin/e2b-new/.ready bin/e2b-old/.ready bin/e2b-js/.ready ## drive every call of published E2B clients, as they are, against a server
	$(E2B)/drive $(BIN) $(PY) $(CURDIR)/bin

# Published Jupyter clients: those from PyPI, with which the kernels too are run, and those from npm.
bin/jupyter/.ready: $(JUPYTER)/clients.txt kernel/python/requirements.txt | venv
	rm -rf $(@D)
	$(PY) -m venv --without-pip $(@D)
	install() { $(PY) -m uv pip install --quiet --require-hashes --python $(@D)/bin/python \
	  -r kernel/python/requirements.txt -r $< "$$@"; }; \
	install --system-certs || install
	touch $@

bin/jupyter-js/.ready: $(JUPYTER)/package.json $(JUPYTER)/package-lock.json
	rm -rf $(@D)
	mkdir -p $(@D)
	cp $^ $(@D)
	npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund --loglevel error
	touch $@

jupyter: build venv bin/jupyter/.ready bin/jupyter-js/.ready ## drive published Jupyter clients, JupyterLab in a browser among them, against a server
	$(JUPYTER)/drive $(BIN) $(CURDIR)/bin

# The published MCP client.
bin/mcp-js/.ready: $(MCP)/package.json $(MCP)/package-lock.json
	rm -rf $(@D)
	mkdir -p $(@D)
	cp $^ $(@D)
	npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund --loglevel error
	touch $@

mcp: build venv bin/mcp-js/.ready ## call every tool with the published MCP client, over HTTP and over standard input and output
	$(MCP)/drive $(BIN) $(PY) $(CURDIR)/bin/mcp-js

record: venv ## record real kernels into fixtures/*.txtar anew
	go run ./fixtures/record -python $(PY)

fuzz: ## every fuzz target in turn, FUZZTIME each
	@for pkg in $$(go list ./...); do \
	  list=$$(go test -list '^Fuzz' "$$pkg"); \
	  for target in $$(awk '/^Fuzz/' <<<"$$list"); do \
	    echo "$$pkg $$target"; \
	    go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) "$$pkg"; \
	  done; \
	done

# The clients and servers that the benchmark compares us with, and the Python that runs all kernels in it.
bin/bench/.ready: bench/peers.txt kernel/python/requirements.txt | venv
	rm -rf $(@D)
	$(PY) -m venv --without-pip $(@D)
	install() { $(PY) -m uv pip install --quiet --require-hashes --python $(@D)/bin/python \
	  -r kernel/python/requirements.txt -r $< "$$@"; }; \
	install --system-certs || install
	touch $@

bench: build venv bin/bench/.ready ## measure us beside our peers: doc/bench (BENCH=quick: a tenth, printed; BENCH=long: hours; ONLY=PART,...)
	bin/bench/bin/python bench/bench.py --binary $(BIN) --scale $(or $(BENCH),default) --only '$(ONLY)' \
	  $(if $(filter quick,$(BENCH)),,--out doc/bench)

chaos: venv ## start and kill N kernels, and SANDBOXES of a server, at random points; nothing may be left
	go test ./chaos -v -count=1 -timeout 60m -kernels $(N) -sandboxes $(SANDBOXES)

soak: venv ## CLIENTS do mixed work in SOAKED sandboxes for DURATION, while kernels, agents and the server are killed and it is upgraded: a table
	go test -tags soak ./chaos -v -count=1 -timeout 0 -run Soak -lasts $(DURATION) -clients $(CLIENTS) -sandboxes $(SOAKED)

lock: venv ## pin the packages of the managed Python and of the tests anew
	compile() { $(PY) -m uv pip compile --universal --python-version 3.10 --generate-hashes --quiet --upgrade \
	  --no-annotate --no-header "$$@"; }; \
	compile kernel/python/requirements.in -o kernel/python/requirements.txt; \
	compile kernel/python/lab.in -c kernel/python/requirements.txt -o kernel/python/lab.txt; \
	compile .ci/requirements.in -c kernel/python/requirements.txt -o .ci/requirements.txt; \
	compile .ci/schemathesis.in -o .ci/schemathesis.txt; \
	compile .ci/compare.in -c kernel/python/requirements.txt -o .ci/compare.txt; \
	compile bench/peers.in -c kernel/python/requirements.txt -o bench/peers.txt; \
	compile $(JUPYTER)/clients.in -c kernel/python/requirements.txt -o $(JUPYTER)/clients.txt; \
	for pair in new old; do compile $(E2B)/$$pair.in -o $(E2B)/$$pair.txt; done

clean: ## remove what was built here
	rm -rf bin dist $(VENV)
