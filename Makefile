# Everything happens in .venv, which is made from constraints.txt when it is missing or older.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo pictures test test-all check bench clean

# The main job on the embedded sample; make prints each command before its output. So small a model wants one thread: on
# a busy machine, several wait for one another.
demo: $(READY)
	$(BIN)/k710 build --sources k400,k600,k700 --annotations sample --out manifests/sample --force
	$(BIN)/k710 audit --annotations sample --splits train,val,test
	$(BIN)/k710 explain leaked-6000 --manifest manifests/sample
	$(BIN)/k710 explain --sample-ds --manifest manifests/sample
	$(BIN)/k710 labels "tying tie" picking_fruit
	$(BIN)/python -m k710.sample.footage manifests/sample-clips --source k400 --layout class
	$(BIN)/k710 fetch manifests/sample --from local:manifests/sample-clips
	$(BIN)/python -m k710.sample.serve $(BIN)/k710 fetch manifests/sample --from cvdf:{url}
	$(BIN)/k710 verify manifests/sample --decode
	$(BIN)/k710 pack manifests/sample --split val --out manifests/sample-shards --force
	$(BIN)/python -m k710.sample.experiment manifests/experiment-files
	$(BIN)/k710 build --sources k400,k600,k700 --annotations manifests/experiment-files/lists --out manifests/experiment --force
	$(BIN)/k710 fetch manifests/experiment --from local:manifests/experiment-files/clips
	rm -rf manifests/experiment-runs
	OMP_NUM_THREADS=1 $(BIN)/k710 train --recipe tiny-k710 --manifest manifests/experiment --out manifests/experiment-runs/k710 --report-every 140
	$(BIN)/k710 remap-head manifests/experiment-runs/k710/best.pt --to k400
	OMP_NUM_THREADS=1 $(BIN)/k710 train --recipe tiny-k400 --manifest manifests/experiment --init manifests/experiment-runs/k710/best.k400.pt --out manifests/experiment-runs/k400
	OMP_NUM_THREADS=1 $(BIN)/k710 eval --checkpoint manifests/experiment-runs/k400/best.pt --manifest manifests/experiment --view k400 --out manifests/experiment-runs/k400/eval
	$(BIN)/k710 report manifests/experiment --runs manifests/experiment-runs --out manifests/experiment.html

# The pictures of docs/, from the demo's report by a headless chromium.
pictures: $(READY)
	$(BIN)/python docs/pictures.py manifests/experiment.html docs

test: $(READY)
	$(BIN)/pytest -m "not slow" -n auto

test-all: $(READY)
	$(BIN)/pytest -n auto

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python benchmarks/build.py
	$(BIN)/python benchmarks/augment.py
	$(BIN)/python benchmarks/loading.py
	$(BIN)/python benchmarks/profiles.py
	$(BIN)/python benchmarks/fetch.py
	$(BIN)/python benchmarks/model.py
	$(BIN)/python benchmarks/report.py

clean:
	rm -rf .venv build dist

$(READY): pyproject.toml constraints.txt
	@echo "Setting up .venv"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@
