# Everything happens in .venv, which is made from constraints.txt when it is missing or older: for the demo k710 and what
# it needs, for all else what tests, checks and benchmarks need too.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
READY_DEV := .venv/.ready-dev
READY_DOCS := .venv/.ready-docs
# Which tests: make test ARGS=tests/curation
ARGS ?=

.PHONY: demo pictures test test-slow test-all check format docs bench experiments clean

# The main job on the embedded sample; make prints each command before its output, and what it is for before those that
# take longer than ten seconds. So small a model wants one thread: on a busy machine, several wait for one another. Of the
# recipe's 30 epochs 15 are enough to see it learn.
demo: $(READY)
	@echo "# The lists of three releases in miniature: build Kinetics-710 of them, audit them, explain two clips."
	$(BIN)/k710 build --sources k400,k600,k700 --annotations sample --out manifests/sample --force
	$(BIN)/k710 audit --annotations sample --splits train,val,test
	$(BIN)/k710 explain leaked-6000 --manifest manifests/sample
	$(BIN)/k710 explain --sample-ds --manifest manifests/sample
	$(BIN)/k710 labels "tying tie" picking_fruit
	@echo "# Draw K400's clips as video files, and fetch them from that folder."
	$(BIN)/python -m k710.sample.footage manifests/sample-clips --source k400 --layout class
	$(BIN)/k710 fetch manifests/sample --from local:manifests/sample-clips
	@echo "# Serve archives of the other clips on this machine, and fetch from them."
	$(BIN)/python -m k710.sample.serve $(BIN)/k710 fetch manifests/sample --from cvdf:{url}
	@echo "# Read and decode every clip of the store, and pack the val clips into shards."
	$(BIN)/k710 verify manifests/sample --decode
	$(BIN)/k710 pack manifests/sample --split val --out manifests/sample-shards --force
	@echo "# An experiment of ten motions: draw its clips, build its manifest, fetch them."
	$(BIN)/python -m k710.sample.experiment manifests/experiment-files
	$(BIN)/k710 build --sources k400,k600,k700 --annotations manifests/experiment-files/lists --out manifests/experiment --force
	$(BIN)/k710 fetch manifests/experiment --from local:manifests/experiment-files/clips
	@echo "# Train a tiny model on Kinetics-710 from nothing: the longest step, about a minute on two idle cores."
	rm -rf manifests/experiment-runs
	OMP_NUM_THREADS=1 $(BIN)/k710 train --recipe tiny-k710 --manifest manifests/experiment --out manifests/experiment-runs/k710 --set epochs=15 --workers 1 --report-every 140
	@echo "# Pick the rows of its head for Kinetics-400, finetune it for five epochs, evaluate it."
	$(BIN)/k710 remap-head manifests/experiment-runs/k710/best.pt --to k400
	OMP_NUM_THREADS=1 $(BIN)/k710 train --recipe tiny-k400 --manifest manifests/experiment --init manifests/experiment-runs/k710/best.k400.pt --out manifests/experiment-runs/k400 --workers 1
	OMP_NUM_THREADS=1 $(BIN)/k710 eval --checkpoint manifests/experiment-runs/k400/best.pt --manifest manifests/experiment --view k400 --out manifests/experiment-runs/k400/eval
	@echo "# Write the report of the experiment and its runs."
	$(BIN)/k710 report manifests/experiment --runs manifests/experiment-runs --out manifests/experiment.html

# The pictures of docs/, from the demo's report by a headless chromium.
pictures: $(READY_DEV)
	$(BIN)/python docs/pictures.py manifests/experiment.html docs

test: $(READY_DEV)
	$(BIN)/pytest -m "not slow" -n auto $(ARGS)

# What `make test` leaves out.
test-slow: $(READY_DEV)
	$(BIN)/pytest -m slow -n auto $(ARGS)

test-all: $(READY_DEV)
	$(BIN)/pytest -n auto $(ARGS)

check: $(READY_DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What ruff can mend by itself.
format: $(READY_DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The pages of docs/ as a site in build/docs; a dead link or a docstring that cannot be read fails.
docs: $(READY_DOCS)
	$(BIN)/python -m sphinx -q -W --keep-going -c docs . build/docs
	@echo "# build/docs/docs/index.html"

# Every benchmark of speed; then the tables of docs/ from their results. On an idle machine.
bench: $(READY_DEV)
	$(BIN)/python benchmarks/build.py
	$(BIN)/python benchmarks/augment.py
	$(BIN)/python benchmarks/loading.py
	$(BIN)/python benchmarks/profiles.py
	$(BIN)/python benchmarks/fetch.py
	$(BIN)/python benchmarks/archives.py
	$(BIN)/python benchmarks/model.py
	$(BIN)/python benchmarks/large.py
	$(BIN)/python benchmarks/train.py
	$(BIN)/python benchmarks/plan.py
	$(BIN)/python benchmarks/near_duplicate_hashes.py
	$(BIN)/python benchmarks/tables.py

# What is claimed of methods: what they find, save and are worth. Some take many minutes.
experiments: $(READY_DEV)
	$(BIN)/python benchmarks/frozen_training.py
	$(BIN)/python benchmarks/dual_masking.py
	$(BIN)/python benchmarks/probe.py
	$(BIN)/python benchmarks/near_duplicates.py
	$(BIN)/python benchmarks/near_duplicate_recall.py
	$(BIN)/python benchmarks/compare_coverage.py
	$(BIN)/python benchmarks/leak_worth.py
	$(BIN)/python benchmarks/tables.py

clean:
	rm -rf .venv build dist

# pip says what it downloads: on a slow line that takes minutes.
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

$(READY): pyproject.toml constraints.txt
	@echo "# Setting up .venv: k710 and what it needs, PyTorch among it"
	@$(PYTHON) -m venv .venv
	@$(PIP) -e .
	@touch $@

$(READY_DEV): $(READY)
	@echo "# Adding to .venv what tests, checks and benchmarks need"
	@$(PIP) -e ".[dev]"
	@touch $@

$(READY_DOCS): $(READY)
	@echo "# Adding to .venv what the documentation site needs"
	@$(PIP) -e ".[docs]"
	@touch $@
