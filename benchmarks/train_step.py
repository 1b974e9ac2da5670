"""What do other ways to look at patches buy? A training step at QVHighlights' sizes, by variant.

    python benchmarks/train_step.py                          # ours against the reference
    python benchmarks/train_step.py --batch 16 --dropout 0
    python benchmarks/train_step.py --variants all           # every rewrite, bf16, torch.compile
    python benchmarks/train_step.py --variants "ours (+ tiles)" "ours, with the prior" \
        --against "ours (+ tiles)"

A step is forward, losses, backward, clipping and AdamW, in float32 on two threads unless the name
says otherwise; 75 frames of 50 tokens, 4 layers, queries of 12 to 20 words. Variants take turns in
one process; ratios are taken within a turn. Memory is the peak of a process of its own, over what
was resident before its first step. Differences are of first steps without dropout, relative to each
tensor's maximum; parameters whose gradient is zero but for rounding are left out.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from block_variants import OURS, REFERENCE, VARIANTS, Contender, random_batch
from torch import Tensor

from r2t.train.data.batch import Batch
from r2t.train.model.losses import LossConfig, compute_losses

MEGABYTE = 2**20
DRAWS = 4  # batches to compare on
BEFORE_RELU = ("expand", "feed_forward_norm", ".norm", "head.hidden")


def main() -> None:
    """Compare, measure memory, time in turns, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--dropout", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--variants", nargs="*", default=[REFERENCE, OURS], help="names, or: all")
    parser.add_argument("--against", default=REFERENCE, help="whose time is set in relation")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    batch = random_batch(options.batch)
    if options.memory_of:
        print(peak_bytes(Contender(options.memory_of, dropout=options.dropout), batch))
        return
    names = list(VARIANTS) if options.variants == ["all"] else options.variants
    print(
        f"{platform.processor() or platform.machine()}, torch {torch.__version__}, "
        f"{options.threads} threads, batch {options.batch}, dropout {options.dropout}, "
        f"{options.rounds} rounds in turns"
    )
    largest = {name: difference(name) for name in names}
    memory = {name: memory_in_subprocess(name) for name in names}
    wall, processor = time_in_turns(names, batch, options.dropout, options.rounds)
    print(
        f"{'':26}{'step s':>8}{'CPU s':>8}  {'times faster, wall':26}"
        f"{'CPU':>6}{'peak MB':>9}  largest difference"
    )
    for name in names:
        ratios = [plain / own for plain, own in zip(wall[options.against], wall[name], strict=True)]
        work = [
            plain / own
            for plain, own in zip(processor[options.against], processor[name], strict=True)
        ]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(
            f"{name:26}{statistics.median(wall[name]):8.2f}"
            f"{statistics.median(processor[name]):8.2f}  {spread:26}"
            f"{statistics.median(work):6.2f}{memory[name] / MEGABYTE:9.0f}  {largest[name]}"
        )


def step(contender: Contender, batch: Batch, optimizer: torch.optim.Optimizer) -> None:
    """Take one training step."""
    predictions = contender.predict(batch)
    assert batch.targets is not None
    losses = compute_losses(predictions, batch.targets, LossConfig())
    optimizer.zero_grad()
    losses.total.backward()
    torch.nn.utils.clip_grad_norm_(contender.model.parameters(), 35.0)
    optimizer.step()


def adamw(contender: Contender) -> torch.optim.Optimizer:
    """Make the optimizer of the training loop."""
    parameters = [p for p in contender.model.parameters() if p.requires_grad]
    return torch.optim.AdamW(parameters, lr=1e-4, weight_decay=1e-4, fused=True)


def time_in_turns(
    names: list[str], batch: Batch, dropout: float, rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return wall and processor seconds of each round, after one that is not counted."""
    contenders = [(name, Contender(name, dropout=dropout)) for name in names]
    optimizers = [adamw(contender) for _, contender in contenders]
    wall: dict[str, list[float]] = {name: [] for name in names}
    processor: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds + 1):
        for (name, contender), optimizer in zip(contenders, optimizers, strict=True):
            began, worked = time.perf_counter(), time.process_time()
            step(contender, batch, optimizer)
            if turn:
                wall[name].append(time.perf_counter() - began)
                processor[name].append(time.process_time() - worked)
    return wall, processor


def memory_in_subprocess(name: str) -> int:
    """Return the peak of three steps of a variant in a fresh process."""
    arguments = [*sys.argv[1:], "--memory-of", name]
    found = subprocess.run(
        [sys.executable, __file__, *arguments], check=True, capture_output=True, text=True
    )
    return int(found.stdout.split()[-1])


def peak_bytes(contender: Contender, batch: Batch) -> int:
    """Return how far the resident set rises in three steps."""
    optimizer = adamw(contender)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far becomes what is resident now
    before = _status("VmRSS")
    for _ in range(3):
        step(contender, batch, optimizer)
    return _status("VmHWM") - before


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


def difference(name: str) -> str:
    """Return the largest difference of an output, a loss or a gradient to the reference."""
    shares: dict[str, float] = {}
    smooth = 0
    for seed in range(DRAWS):
        batch = random_batch(2, seed)
        (ours, sides), (expected, other_sides) = (first_step(n, batch) for n in (name, REFERENCE))
        if not all(map(torch.equal, sides, other_sides)):
            continue
        smooth += 1
        for key, tensor in expected.items():
            error = (ours[key] - tensor).abs().max() / tensor.abs().max().clamp(min=1e-12)
            shares[key] = max(shares.get(key, 0), error.item())
    if not smooth:
        return "none of the draws is comparable"
    worst = max(shares, key=lambda key: shares[key])
    return f"{shares[worst]:.1e} {worst} ({smooth} draws)"


def first_step(name: str, batch: Batch) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Return outputs, losses and gradients without dropout, and which units the ReLUs let pass.

    Where rounding moves a unit across zero, gradients differ by what the unit carries, whatever
    computes them; such draws are not compared. The ReLU of the patches has too many units for one
    to show.
    """
    contender = Contender(name, dropout=0.0)
    sides: list[Tensor] = []
    for module_name, module in contender.model.named_modules():
        if module_name.endswith(BEFORE_RELU):
            module.register_forward_hook(lambda _module, _inputs, output: sides.append(output > 0))
    predictions = contender.predict(batch)
    assert batch.targets is not None
    assert predictions.offsets is not None
    losses = compute_losses(predictions, batch.targets, LossConfig())
    losses.total.backward()
    gradients = {
        name: parameter.grad
        for name, parameter in contender.model.named_parameters()
        if parameter.grad is not None and not name.endswith("key.bias")
    }
    outputs = {
        "logits": predictions.class_logits[predictions.point_mask],
        "offsets": predictions.offsets[predictions.point_mask],
        "saliency": predictions.saliency[predictions.frame_mask],
    }
    named = {**outputs, **losses.terms(), **gradients}
    return {key: tensor.detach() for key, tensor in named.items()}, sides


if __name__ == "__main__":
    main()
