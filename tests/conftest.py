"""Settings of the whole suite."""

from __future__ import annotations

import os

# Set before torch is imported: the suite's tensors are too small to share among threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import install_import_hook

# The shapes in signatures are checked while the tests run; here and not in pyproject.toml, because
# jaxtyping's pytest option cannot pass a configured checker for more than one package.
install_import_hook(
    ["r2t.train", "r2t.extract"],
    "beartype.beartype(conf=__import__('beartype').BeartypeConf(is_pep484_tower=True))",
)
