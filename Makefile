# Two commands do everything on a fresh machine: `make run` and `make test`.
# The command line sets these, the environment only PYTHON: some shells export HOST.
HOST    = 0.0.0.0
PORT    = 9000
VLCPORT = 5004
ARGS    =
PID     =
SOAK    = 600
PYTHON  ?= python3
VENV    := .venv
PY      := $(VENV)/bin/python
READY   := $(VENV)/.ready
DEV     := $(VENV)/.ready-dev
PIDFILE := build/relay-$(PORT).pid
VIEWED  := $(patsubst 0.0.0.0,127.0.0.1,$(HOST))
# Tells whether $$pid is a relay on this port: it may have ended, and its number be used again.
COMMAND = cat "/proc/$$pid/cmdline" 2>/dev/null | tr '\0' ' '
RUNNING = $(COMMAND) | grep -q 'relay\.py [^ ]* $(PORT) '

.DEFAULT_GOAL := help
.PHONY: help setup run demo doctor client reload test test-long matrix check bench soak attacks sample docs dist clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv with what the programs need

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'Python 3.11 or newer is needed; name it with PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { [ "$$(id -u)" = 0 ] && apt-get install -qy python3-venv; } || \
	  { echo 'Python lacks venv; on Debian: sudo apt-get install -y python3-venv' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --editable '.[tools]'
	@touch $@

$(DEV): $(READY)
	$(PY) -m pip install --quiet --editable '.[dev]'
	@touch $@

run: $(READY) ## run the relay: HOST= PORT= ARGS='--allow any'
	@mkdir -p build; pid=$$(cat $(PIDFILE) 2>/dev/null); \
	  $(RUNNING) || echo $$$$ >$(PIDFILE); exec $(PY) relay.py $(HOST) $(PORT) --http auto $(ARGS)

demo: $(READY) ## run the relay with the sample as an endless stream: all you need is a player
	@exec $(PY) tools/demo.py $(HOST) $(PORT) --http auto $(ARGS)

doctor: $(READY) ## what would go wrong here, and what to do: HOST= PORT= ARGS=
	@$(PY) relay.py $(HOST) $(PORT) --http auto --doctor $(ARGS)

client: $(READY) ## watch: HOST= PORT= VLCPORT= ARGS='--vlc'
	@$(PY) client.py $(VIEWED) $(PORT) $(VLCPORT) $(ARGS)

reload: ## reload the relay of `make run`, losing no viewer: PORT= or PID=
	@pid=$(or $(PID),$$(cat $(PIDFILE) 2>/dev/null)); \
	  $(if $(PID),$(COMMAND) | grep -q 'relay\.py ',$(RUNNING)) || \
	  { echo "no relay of make run $(if $(PID),in process $(PID),on port $(PORT)); name another: PORT= or PID=" >&2; exit 1; }; \
	  kill -HUP "$$pid" && echo "relay $$pid: reload asked for; its log tells how it went"

# Most tests wait most of their time, so there may be more of them at once than there are cores. Each
# process is handed its next test when it gets free, or the long ones would gather at one.
test: $(DEV) ## run the tests: ARGS='-k control'
	@$(PY) -m pytest -n 6 --maxschedchunk 1 -m 'not long' $(ARGS)

test-long: $(DEV) ## run the others: players, browsers, namespaces, attacks; seven minutes
	@$(PY) -m pytest -n 6 --maxschedchunk 1 -m long $(ARGS)

matrix: $(DEV) ## try every kind of source with every player and browser: two minutes
	$(PY) tools/matrix.py $(ARGS)

check: $(DEV) ## lint, format and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

bench: $(DEV) ## measure beside other relays, eleven minutes: ARGS='--plan quick'
	$(PY) tools/bench.py $(ARGS)

soak: $(DEV) ## viewers, sources and reloads for ten minutes: SOAK=seconds
	$(PY) tools/soak.py $(SOAK) $(ARGS)

attacks: $(DEV) ## attack the relay and measure what its viewers lose
	$(PY) tools/attacks.py $(ARGS)

sample: ## make the sample stream again (needs ffmpeg)
	sh tools/sample/make.sh

docs: $(DEV) ## make man pages, completions and tables of options again, after a change of options
	$(PY) tools/documents.py

dist: $(DEV) ## make wheel and sdist, in dist/
	$(PY) -m build

clean: ## remove what the other targets made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
