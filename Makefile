# The two commands of the README are `make demo` and `make test`; both make the environment first.
PYTHON ?= python3
BIN := .venv/bin
# A cat that scikit-image's wheel carries.
PHOTO = $(shell $(BIN)/python -c "from importlib.resources import files; print(files('skimage') / 'data' / 'chelsea.png')")

.PHONY: setup demo test lint format bench bench-explain bench-recover bench-atlas clean

setup: .venv/installed

# constraints.txt pins the torch that this was tested with; the package itself takes a range.
.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: setup
	$(BIN)/preimage report bundled $(PHOTO) -o tour --units 4 --classes 10 --steps 120
	@echo "Open tour/index.html"

# Quick tests side by side, file by file (what a file makes once is made once); those on trained networks, and those
# that start a cluster, take all cores by themselves.
test: setup
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not real and not cluster"
	$(BIN)/python -m pytest -m "real or cluster"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup
	PYTHONPATH=experiments $(BIN)/python benchmarks/speed.py

bench-explain: setup
	PYTHONPATH=experiments $(BIN)/python benchmarks/explaining.py

bench-recover: setup
	PYTHONPATH=experiments $(BIN)/python benchmarks/recovering.py

bench-atlas: setup
	PYTHONPATH=experiments $(BIN)/python benchmarks/atlas.py

clean:
	rm -rf .venv tour build dist
