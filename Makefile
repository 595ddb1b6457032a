# make demo   the guard at work on this machine, from a fresh clone with nothing but Python 3.11+
# make test   all tests
# make check  types, style, import contracts
# make bench  how fast, how small; beside other guards
# make eval   how well the analyzer tells people from machines, on logs whose crawlers are masked
# make load   people, crawlers and the attackers of every rate signature against a real server (5 minutes)
PYTHON ?= python3
VENV ?= .venv
BENCH ?= .build/bench
BIN = $(VENV)/bin

.PHONY: demo test test-alone test-together check bench eval load clean help
.NOTPARALLEL:

help:
	@sed -n 's/^# //p' Makefile

# pip 25.1 knows dependency groups.
$(VENV)/.pip:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "crawlguard needs Python 3.11 or newer; try: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	touch $@

$(VENV)/.demo: $(VENV)/.pip pyproject.toml
	@echo "installing what the demonstration needs into $(VENV): half a minute the first time"
	$(BIN)/python -m pip install --quiet -e . --group demo
	touch $@

$(VENV)/.test: $(VENV)/.pip pyproject.toml
	$(BIN)/python -m pip install --quiet -e '.[all]' --group test
	touch $@

# Holds all that the tests need too.
$(VENV)/.check: $(VENV)/.pip pyproject.toml
	$(BIN)/python -m pip install --quiet -e '.[all]' --group check
	touch $(VENV)/.test $@

$(BENCH)/.done: pyproject.toml
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BENCH)/bin/python -m pip install --quiet '.[all]' --group bench
	touch $@

demo: $(VENV)/.demo
	@$(BIN)/crawlguard demo

test: test-together test-alone

# Whoever starts some hundred processes wants the guard and the tests compiled once.
test-together test-alone: export PYTHONDONTWRITEBYTECODE =
test-together: $(VENV)/.test
	$(BIN)/python -m pytest -n auto --dist worksteal -m 'not alone'

test-alone: $(VENV)/.test
	$(BIN)/python -m pytest -m alone $(shell grep -lF mark.alone tests/test_*.py)

check: $(VENV)/.check
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: $(VENV)/.test $(BENCH)/.done
	$(BIN)/python -m tests.bench --peers $(BENCH)/bin/python

eval: $(VENV)/.test
	$(BIN)/python -m tests.eval

load: $(VENV)/.test
	$(BIN)/python -m tests.load

clean:
	rm -rf $(VENV) .build dist .mypy_cache .ruff_cache .hypothesis
