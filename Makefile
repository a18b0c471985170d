# Two commands on a fresh machine: `make demo` and `make test`. Each makes its own virtual environment in .venv and
# needs Python 3.11+ (set PYTHON to choose one) and the package index.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# torch and torchvision are named in every install, or another package pulls a build with gigabytes of CUDA libraries.
PINNED := $(shell sed -n -E '/^(torch|torchvision)==/p' constraints.txt)
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt $(PINNED)

.PHONY: demo test test-integration test-online bench miniature notebook screenshots starter starter-evaluation lint wheel-test clean

demo: $(VENV)/.installed
	$(BIN)/make-map --demo --out demo

test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not integration and not online" tests

test-integration: $(VENV)/.installed-dev $(VENV)/.installed-csmask $(VENV)/.installed-notebook
	tests/integration/install-debian-packages
	PYTHON=$(BIN)/python tests/integration/install-servers
	PYTHON=$(BIN)/python tests/integration/install-stac-validator
	PYTHON=$(BIN)/python tests/integration/install-kubernetes-validator
	PYTHON=$(BIN)/python tests/integration/install-orchestrators
	$(BIN)/python -m pytest -m integration tests/integration

test-online: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m online tests

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/run.py $(TOPICS)

# docs/example.ipynb, executed again where it stands.
notebook: $(VENV)/.installed-notebook
	PYTHONWARNINGS="ignore:IProgress not found" $(BIN)/jupyter-execute --inplace --timeout 1800 docs/example.ipynb

# docs/images: the demonstration, and belgium-2018 where its scenes are, in real QGIS and in a browser (Debian).
screenshots: demo $(VENV)/.installed-dev
	tests/integration/install-debian-packages
	$(BIN)/python tests/integration/screenshots.py demo --name demo
	if [ -e $(PARCELS)/catalog.json ]; then \
	    $(BIN)/make-map --aoi 501360,5629040,502000,5629680 --aoi-crs EPSG:32631 --start 2017-12 \
	        --catalog $(PARCELS)/catalog.json --prompts land-cover --out out/belgium-2018 && \
	    $(BIN)/python tests/integration/screenshots.py out/belgium-2018 --name belgium-2018; fi

# The paper in small: simulated places, drawn photos, a small CLIP trained on them and frozen, then the paper's training.
miniature: $(VENV)/.installed-dev
	rm -rf miniature
	$(BIN)/python -m timesenmap.workflows.miniature --out miniature

# The shipped starter encoder, trained anew from the labelled series in SERIES (a folder of parquet files) and series
# simulated from the spectra in SPECTRA.
SERIES ?= ../shared/data/series
SPECTRA ?= ../shared/data/spectra
SIMULATED ?= out/simulated.parquet
ALL_SERIES = $$(printf ' --series %s' $(SERIES)/*.parquet $(SIMULATED))
starter: $(SIMULATED)
	$(BIN)/train-encoder --config model/weights/starter.yaml $(ALL_SERIES)

$(SIMULATED): $(VENV)/.installed-dev
	$(BIN)/simulate-series --out $@ --count 24000 --seed 5 --spectra $(SPECTRA)/s2_spectra.parquet \
	    --srf $(SPECTRA)/s2_srf.csv --calendar $(SPECTRA)/crop_calendar_worldcereal_0p5deg.parquet

# What the model card says of the starter: held-out cells, sources left out of training (hours: one training a group),
# and the declared parcels of a place it never saw. All of it in EVALUATION, with one page and tables for the card.
EVALUATION ?= starter-evaluation
STARTER ?= starter
PARCELS ?= ../shared/data/belgium-2018
starter-evaluation: $(SIMULATED)
	$(BIN)/evaluate-encoder held-out --config model/weights/starter.yaml $(ALL_SERIES) \
	    --encoder $(STARTER) --out $(EVALUATION)
	$(BIN)/evaluate-encoder parcels --labels $(PARCELS)/labels_CT.tif --catalog $(PARCELS)/catalog.json --start 2017-12 \
	    $$(printf ' --prompts %s' model/weights/parcels-*.yaml) --encoder $(STARTER) --out $(EVALUATION)
	$(BIN)/evaluate-encoder left-out --config model/weights/starter.yaml $(ALL_SERIES) --epochs 24 --out $(EVALUATION)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=.types $(BIN)/lint-imports --no-cache

# The wheel in an environment of its own, tested from a folder where nothing of the checkout can be imported by accident.
wheel-test: $(VENV)/.installed-dev
	rm -rf build dist .venv-wheel
	$(BIN)/python -m build --wheel --outdir dist . >/dev/null
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/python -m pip install --quiet --constraint constraints.txt $(PINNED) "$$(echo dist/*.whl)[train,cluster,dev]"
	here="$$PWD" && cd "$$(mktemp -d)" && OMP_NUM_THREADS=1 "$$here/.venv-wheel/bin/python" -m pytest -n 2 -p no:cacheprovider \
	    -m "not integration and not online" "$$here/tests"

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) --editable ".[train,cluster,dev,simulate]"
	touch $@

$(VENV)/.installed-notebook: $(VENV)/.installed
	$(PIP) --editable ".[notebook]"
	touch $@

$(VENV)/.installed-csmask: $(VENV)/.installed-dev
	$(PIP) --editable ".[csmask]"
	touch $@

clean:
	rm -rf $(VENV) .venv-wheel build dist *.egg-info demo demo-scenes miniature
