"""How a model is trained: the loop, its processes, its interruptions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2t.store.lazy import lazy_exports

if TYPE_CHECKING:
    from r2t.train.training.execution import Execution as Execution
    from r2t.train.training.fit import (
        Splits as Splits,
        evaluation_queries as evaluation_queries,
        split_annotations as split_annotations,
        train_model as train_model,
    )
    from r2t.train.training.optimizer import learning_rate as learning_rate
    from r2t.train.training.processes import Processes as Processes, joined as joined
else:
    __getattr__ = lazy_exports(__name__)
