.PHONY: check lint types layers test stress gpu-check lowest constraints reference docs-check demo clean

check: lint types layers test

lint:
	ruff check .
	ruff format --check .
	deptry --no-ansi extract store train cli --optional-dependencies-dev-groups test
	deptry --no-ansi extract store train cli benchmarks tests

# r2t.store is ../r2t/store to the type checker, so it reads the checkout through a link called r2t.
types:
	mkdir -p .cache && ln -sfn .. .cache/r2t && pyright -p .cache/r2t

layers:
	lint-imports --no-cache

# On as many cores as there are, up to four, since each process loads torch.
test:
	python -m pytest -n logical --maxprocesses 4 --dist worksteal

stress:
	python -m pytest -m stress

# Needs a GPU; docs/gpu.md says how to read what it prints.
gpu-check:
	python benchmarks/gpu.py

# The oldest packages that pyproject.toml allows, in an environment of their own.
LOWEST = .cache/lowest
FAST = tests/store tests/train tests/extract/clip/test_clip.py tests/extract/video/test_frames.py tests/cli/commands/test_predict.py
lowest:
	rm -rf $(LOWEST) && mkdir -p $(LOWEST)
	uv pip compile --quiet --resolution lowest-direct --extra test -o $(LOWEST)/packages.txt pyproject.toml
	uv venv --quiet --python "$$(command -v python)" $(LOWEST)/venv
	uv pip install --python $(LOWEST)/venv -r $(LOWEST)/packages.txt
	uv pip install --python $(LOWEST)/venv --no-deps -e .
	$(LOWEST)/venv/bin/python -m pytest $(FAST)

# The packages of the environment that this is called in.
constraints:
	mkdir -p .cache
	( sed '/^[^#]/,$$d' constraints.txt; pip freeze --all --exclude pip --exclude-editable ) > .cache/constraints.txt
	mv .cache/constraints.txt constraints.txt

# README, docs/ and the Python API as pages: .cache/reference/site/index.html.
reference:
	python tests/reference.py

docs-check: reference
	python tests/documents.py

demo:
	r2t demo

clean:
	rm -rf build dist .cache .pytest_cache .ruff_cache *.egg-info
