# Two commands do everything on a fresh machine: `make run` and `make test`.
HOST    ?= 0.0.0.0
PORT    ?= 9000
VLCPORT ?= 5004
ARGS    ?=
SOAK    ?= 600
PYTHON  ?= python3
VENV    := .venv
PY      := $(VENV)/bin/python
READY   := $(VENV)/.ready
PIDFILE := build/relay-$(PORT).pid
VIEWED  := $(patsubst 0.0.0.0,127.0.0.1,$(HOST))

.DEFAULT_GOAL := help
.PHONY: help setup run demo client reload test check bench soak sample clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv with everything that the project uses

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'Python 3.11 or newer is needed; name it with PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { echo 'Python lacks venv; on Debian: sudo apt-get install -y python3-venv' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --editable '.[dev]'
	@touch $@

run: $(READY) ## run the relay: HOST= PORT= ARGS='--allow any'
	@mkdir -p build && echo $$$$ >$(PIDFILE) && exec $(PY) relay.py $(HOST) $(PORT) $(ARGS)

demo: $(READY) ## run the relay with the sample as an endless stream: all you need is a player
	@$(PY) tools/fake_vlc.py $(VIEWED) $(PORT) --rtp --loop >/dev/null 2>&1 & \
	  trap "kill $$! 2>/dev/null" EXIT; $(PY) relay.py $(HOST) $(PORT) $(ARGS)

client: $(READY) ## watch: HOST= PORT= VLCPORT= ARGS='--vlc'
	@$(PY) client.py $(VIEWED) $(PORT) $(VLCPORT) $(ARGS)

reload: ## restart the relay of `make run` in place, losing no viewer: PORT= or PID=
	@pid=$(or $(PID),$$(cat $(PIDFILE) 2>/dev/null)); \
	  grep -qs relay.py "/proc/$$pid/cmdline" || { echo "no relay of make run on port $(PORT)" >&2; exit 1; }; \
	  kill -HUP "$$pid" && echo "relay $$pid: restart asked for; its log tells how it went"

test: $(READY) ## run the tests: ARGS='-k control'
	@$(PY) -m pytest $(ARGS)

check: $(READY) ## lint, format and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

bench: $(READY) ## measure beside other relays: ARGS=--quick
	@$(PY) -c 'import matplotlib' 2>/dev/null || $(PY) -m pip install --quiet --editable '.[dev,bench]'
	$(PY) tools/bench.py $(ARGS)

soak: $(READY) ## a long life in a few minutes: SOAK=seconds
	$(PY) tools/soak.py $(SOAK) $(ARGS)

sample: ## make the sample stream again (needs ffmpeg)
	sh tools/sample/make.sh

clean: ## remove what the other targets made
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
