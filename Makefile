# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MINUTES ?= 240
TESTS_AT_ONCE ?= 2
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
LOCK := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --quiet --custom-compile-command 'make lock'

.PHONY: demo test check lint format bench bench-long faults faults-long blast-radius outage-long lock lock-artifacts clean

demo: $(VENV)/deploy.stamp  ## set up, and show the whole way of an event on real parts
	$(BIN)/tailrace demo

test: check  ## set up, and run every check and test
	$(BIN)/python -m pytest --numprocesses $(TESTS_AT_ONCE) --dist loadfile --no-loadscope-reorder

check: lint  ## types, import contracts, and the gate of the Avro contracts
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/tailrace schemas check

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/dev.stamp  ## the sink beside its peers, latency, poison, an outage, in one run; writes docs/benchmarks
	$(BIN)/python -m tests.benchmarks

bench-long: $(VENV)/dev.stamp  ## the outage again, for ten minutes
	$(BIN)/python -m tests.benchmarks outage --outage-minutes 10

faults: $(VENV)/dev.stamp  ## the sink under every fault, judged by a ledger; writes docs/fault-report.md
	$(BIN)/python -m tests.faults --report

faults-long: $(VENV)/dev.stamp  ## the same, round after round of fresh seeds, then with each rule taken away; MINUTES=480
	$(BIN)/python -m tests.faults --report --mutants too --minutes $(MINUTES)

blast-radius: $(VENV)/dev.stamp  ## what users feel while each part behind a worker is dead, hangs or is slow; writes docs/blast-radius.md
	$(BIN)/python -m tests.blast_radius --into docs

outage-long: $(VENV)/dev.stamp  ## a broker that is away for ten minutes, under requests and under emission
	TAILRACE_TEST_OUTAGE_S=600 $(BIN)/python -m pytest tests/blast_radius/test_outage.py tests/producers/test_outages.py

lock:  ## resolve the dependencies anew; needs uv
	$(LOCK) --extra dev --output-file requirements/dev.lock
	$(LOCK) --extra deploy --extra build --constraint requirements/dev.lock --output-file requirements/deploy.lock

lock-artifacts: $(VENV)/dev.stamp  ## resolve the local stack's Maven artifacts anew, after a version in lock_artifacts.py changed
	$(BIN)/python -m deploy.local.lock_artifacts

clean:
	rm -rf $(VENV) .tailrace build dist

$(VENV)/deploy.stamp $(VENV)/dev.stamp: $(VENV)/%.stamp: requirements/%.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tailrace needs Python 3.11 or newer; name one with make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes --requirement $<
	$(PIP) install --no-deps --no-build-isolation --editable .
	touch $@
