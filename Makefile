.PHONY: check lint types layers test stress docs-check demo clean

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

test:
	python -m pytest

stress:
	python -m pytest -m stress

docs-check:
	python tests/documents.py

demo:
	r2t demo

clean:
	rm -rf build dist .cache .pytest_cache .ruff_cache *.egg-info
