"""What does a training step ask of a GPU, by the way of looking at patches? Counted without one.

    python benchmarks/step_costs.py
    python benchmarks/step_costs.py --batch 32 --looks tiled whole

A step is the trainer's: forward, losses, backward, clipping and AdamW, with dropout, on videos of
75 frames with 50 tokens in 4 layers and queries of 20 words, at a width of 256. It is the second
one, on tensors that claim to be on a GPU. Operations are those that torch calls, before anything is
compiled; bytes are what these read and write, with nothing kept in a cache between them. Memory is
the peak over weights and batch. Waits are where the host needs a value that the GPU has to compute
first.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

import torch
from block_variants import FRAMES, LAYERS, TEXT, TOKENS, VISION, open_gate
from fake_gpu import GPU, Counts, fake_gpu

from r2t.train.data.batch import Batch, Targets
from r2t.train.model.looks import MakeLook
from r2t.train.model.losses import compute_losses
from r2t.train.model.model import R2Model
from r2t.train.model.reference_look import ReferenceLook
from r2t.train.model.tiled_look import TiledLook
from r2t.train.model.whole_look import WholeLook
from r2t.train.run.config import TrainConfig
from r2t.train.run.presets import find_preset
from r2t.train.training.optimizer import Optimizer
from r2t.train.training.processes import ALONE

LOOKS: dict[str, MakeLook] = {
    "reference": ReferenceLook,
    "tiled": TiledLook,
    "whole": WholeLook,
}


@dataclass(frozen=True)
class Step:
    """What a step works on; `computed` is the dtype of autocast, None for float32."""

    size: int = 128
    frames: int = FRAMES
    tokens: int = TOKENS
    words: int = 20
    stored: torch.dtype = torch.float16
    computed: torch.dtype | None = torch.float16
    dropout: float = 0.5
    sharing: int = 1

    @property
    def config(self) -> TrainConfig:
        """QVHighlights' settings."""
        config = find_preset("qvhighlights").train_config()
        return replace(config, model=replace(config.model, dropout=self.dropout))

    @property
    def owners(self) -> list[int]:
        """Which video each query asks about."""
        return [query // self.sharing for query in range(self.size)]

    def autocast(self) -> torch.autocast:
        """Return the context in which the model computes."""
        return torch.autocast("cuda", dtype=self.computed, enabled=self.computed is not None)


STEPS = {
    "fp16": Step(),
    "fp16, int8 store": Step(stored=torch.int8),
    "fp32": Step(computed=None),
}


def main() -> None:
    """Count each look in each precision, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--batch", type=int, default=Step.size)
    parser.add_argument("--looks", nargs="*", choices=list(LOOKS), default=list(LOOKS))
    options = parser.parse_args()
    print(f"torch {torch.__version__}, batch {options.batch}")
    print(f"{'':28}{'operations':>11}{'GB':>7}{'TFLOP':>7}{'peak GB':>9}  waits")
    for look in options.looks:
        for name, step in STEPS.items():
            found = counted(LOOKS[look], replace(step, size=options.batch))
            waits = ", ".join(f"{place} x{n}" for place, n in found.waits.items()) or "none"
            print(
                f"{f'{look}, {name}':28}{found.operations:11,}{found.num_bytes / 1e9:7.0f}"
                f"{found.flops / 1e12:7.2f}{found.peak_bytes / 1e9:9.1f}  {waits}",
                flush=True,
            )


def counted(make_look: MakeLook, step: Step, *, num_steps: int = 2) -> Counts:
    """Return what the last of some steps asks of a GPU; the first makes AdamW's moments too."""
    config = step.config
    read_by_host = [step.owners, [step.frames] * step.size, [step.words] * step.size]
    with fake_gpu(read_by_host) as counts:
        with GPU:
            model = R2Model(config.model, make_look).train()
        open_gate(model)
        optimizer = Optimizer(
            model, config, scaled_on="cuda" if step.computed == torch.float16 else None
        )
        batch = fake_batch(step)
        assert batch.targets is not None
        for _ in range(num_steps):
            counts.restart()
            with step.autocast():
                predictions = model(batch)
            losses = compute_losses(predictions, batch.targets, config.losses)
            optimizer.step(losses.total, 1e-4, ALONE)
            del predictions, losses
    return counts


def fake_batch(step: Step) -> Batch:
    """Make a labelled batch that holds nothing, inside `fake_gpu`."""
    size, videos = step.size, step.owners[-1] + 1
    with GPU:
        affine = torch.empty(videos, 2, LAYERS, VISION) if step.stored == torch.int8 else None
        return Batch(
            query_ids=tuple(map(str, range(size))),
            videos=torch.empty(videos, LAYERS, step.frames, step.tokens, VISION, dtype=step.stored),
            affine=affine,
            video_of_query=torch.empty(size, dtype=torch.int64),
            num_frames=torch.empty(size, dtype=torch.int64),
            query=torch.empty(size, LAYERS, step.words, TEXT, dtype=torch.float16),
            num_words=torch.empty(size, dtype=torch.int64),
            durations_seconds=torch.ones(size, dtype=torch.float64, device="cpu"),
            frame_rates_fps=torch.ones(size, dtype=torch.float64, device="cpu"),
            targets=Targets(
                moments=torch.empty(size, 1, 2),
                num_moments=torch.empty(size, dtype=torch.int64),
                saliency=torch.empty(size, step.frames),
                positive_frame=torch.empty(size, dtype=torch.int64),
            ),
        )


if __name__ == "__main__":
    main()
