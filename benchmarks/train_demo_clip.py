"""How was the demo's tiny CLIP made? By this file: about half an hour of one CPU thread.

Frames and captions come from the demo world, from streams of scenes that no split of the demo
uses. The world knows which caption is true of which frame, so the sigmoid contrastive loss gets an
exact table of positives instead of a diagonal, and half of the captions are true ones with one word
changed. The same loss is asked of every patch for the shape that covers it. Linear heads that name
a patch's colour, shape, place, size and tilt speed this up; they are thrown away.

The learning rate follows the clock (`--minutes`), so a rerun differs in its number of steps.
Rerunning with the same `--state` goes on where it stopped. `--no-patch-contrast` makes a CLIP whose
patches are not aligned with words, as real CLIP's were not taught to be; `--to` keeps it apart.

    python benchmarks/train_demo_clip.py --minutes 30 --state /tmp/demo_clip.pt
    python benchmarks/train_demo_clip.py --minutes 13 --no-patch-contrast --to second-clip
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import time
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import demo_clip_batches as batches
import torch
from demo_clip_batches import CaptionedFrames
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from r2t.extract.demo.scene import COLOURS, SHAPES, SIDE
from r2t.extract.demo.sentences import every_description
from r2t.store.files import write_whole

FOLDER = Path(__file__).parent.parent / "extract" / "demo" / "clip"
EXPORT_SECONDS = 180
PATCH = 16


def prune_merges(words: set[str]) -> list[tuple[str, str]]:
    """Keep, in CLIP's order, the merges that spell the words; other words fall into characters."""
    ranks: dict[tuple[str, ...], int] = SimpleTokenizer().bpe_ranks
    used: set[tuple[str, str]] = set()
    for word in words:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            pair = min(pairwise(parts), key=lambda p: ranks.get(p, math.inf))
            if pair not in ranks:
                break
            used.add(pair)
            at = next(i for i in range(len(parts)) if tuple(parts[i : i + 2]) == pair)
            parts[at : at + 2] = ["".join(pair)]
    return sorted(used, key=ranks.__getitem__)


def write_vocabulary(folder: Path) -> SimpleTokenizer:
    """Write the pruned merges and return the tokenizer that reads them."""
    sentences = [d.sentence(variant=v) for d in every_description() for v in range(2)]
    merges = prune_merges({word for sentence in sentences for word in sentence.split()})
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "merges.txt.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))
    return SimpleTokenizer(bpe_path=str(path), context_length=24)


def model_config(vocab_size: int) -> dict:
    return {
        "embed_dim": 128,
        "vision_cfg": {
            "image_size": SIDE, "patch_size": PATCH, "width": 128, "layers": 6, "head_width": 32,
        },
        "text_cfg": {
            "context_length": 24, "vocab_size": vocab_size, "width": 64, "heads": 4, "layers": 6,
        },
    }  # fmt: skip


class Teacher(nn.Module):
    """Everything the loss needs beside the CLIP, and that is thrown away with it."""

    def __init__(self, width: int, *, patch_contrast: bool) -> None:
        super().__init__()
        self.patch_contrast = patch_contrast
        self.bias = nn.Parameter(torch.tensor([-4.0, -4.0]))
        self.patch_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.colour = nn.Linear(width, len(COLOURS) + 1)
        self.shape = nn.Linear(width, len(SHAPES) + 1)
        self.measures = nn.Linear(width, 5)

    def losses(self, model: CLIP, batch: CaptionedFrames) -> dict[str, Tensor]:
        pooled, patches = model.visual(batch.images)
        text = F.normalize(model.encode_text(batch.tokens), dim=-1)
        image = F.normalize(pooled, dim=-1)
        owned = batch.owner >= 0
        frame_logits = model.logit_scale.exp() * image @ text.T + self.bias[0]
        losses = {
            "frame": _sigmoid_loss(frame_logits, batch.truth.any(1)),
            "colour": F.cross_entropy(self.colour(patches).transpose(1, 2), batch.patch_colour()),
            "shape": F.cross_entropy(self.shape(patches).transpose(1, 2), batch.patch_shape()),
            "measures": F.smooth_l1_loss(self.measures(patches)[owned], batch.measures()[owned]),
        }
        if self.patch_contrast:
            patch = F.normalize(patches @ model.visual.proj, dim=-1)
            patch_logits = self.patch_scale.exp() * patch @ text.T + self.bias[1]
            losses["patch"] = _sigmoid_loss(patch_logits[owned], batch.patch_truth()[owned])
        return losses


def _sigmoid_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Sum over captions and average over rows, scaled down to the size of the heads' losses."""
    loss = F.binary_cross_entropy_with_logits(logits, truth.float(), reduction="none")
    return loss.sum(-1).mean() / 8


def export(folder: Path, model: CLIP, config: dict, provenance: dict) -> None:
    """Write weights (float16), config and provenance, each in one rename."""
    preprocess = {
        "mean": batches.MEAN, "std": batches.STD,
        "interpolation": "bicubic", "resize_mode": "shortest",
    }  # fmt: skip
    weights = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    write_whole(folder / "open_clip_model.safetensors", save(weights))
    for name, content in (
        ("open_clip_config.json", {"model_cfg": config, "preprocess_cfg": preprocess}),
        ("provenance.json", provenance),
    ):
        write_whole(folder / name, json.dumps(content, indent=2) + "\n")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path, help="resume from and save to this file")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--to", type=Path, default=FOLDER, help="where the weights are written")
    parser.add_argument(
        "--no-patch-contrast", dest="patch_contrast", action="store_false",
        help="ask the contrastive loss of whole frames only, as CLIP was trained",
    )  # fmt: skip
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)

    tokenizer = write_vocabulary(arguments.to)
    config = model_config(tokenizer.vocab_size)
    model: Any = CLIP(**config, init_logit_scale=math.log(10.0))  # its towers are typed as Module
    model.visual.output_tokens = True
    # open_clip's own start is so faint here that neither places nor words for them are learned.
    nn.init.normal_(model.visual.positional_embedding, std=0.35)
    nn.init.normal_(model.token_embedding.weight, std=0.1)
    teacher = Teacher(config["vision_cfg"]["width"], patch_contrast=arguments.patch_contrast)
    parameters = [p for module in (model, teacher) for p in module.parameters()]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.05},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ],
        betas=(0.9, 0.98),
    )
    done = {"step": 0, "seconds": 0.0}
    if arguments.state and arguments.state.exists():
        state = torch.load(arguments.state, weights_only=True)
        model.load_state_dict(state["model"])
        teacher.load_state_dict(state["teacher"])
        optimizer.load_state_dict(state["optimizer"])
        done = state["done"]
    probes = batches.probe_set(num_scenes=150)
    began, exported = time.monotonic() - done["seconds"], time.monotonic()
    step, share = done["step"], 0.0
    while share < 1:
        share = min((time.monotonic() - began) / (60 * arguments.minutes), 1.0)
        lr = arguments.lr * min((step + 1) / 100, 0.5 + 0.5 * math.cos(math.pi * share))
        for group in optimizer.param_groups:
            group["lr"] = lr
        batch = batches.sample_batch(tokenizer, seed=arguments.seed, step=step)
        losses = teacher.losses(model, batch)
        optimizer.zero_grad()
        sum(losses.values(), start=torch.zeros(())).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        if step % 50 == 0:
            told = " ".join(f"{name} {loss.item():.3f}" for name, loss in losses.items())
            print(f"{share:6.1%} step {step} lr {lr:.1e} {told}", flush=True)
        if share >= 1 or time.monotonic() - exported > EXPORT_SECONDS:
            accuracy = batches.probe(model, tokenizer, probes)
            print(f"{share:6.1%} step {step} {json.dumps(accuracy)}", flush=True)
            done = {"step": step, "seconds": time.monotonic() - began}
            export(arguments.to, model, config, _provenance(arguments, done, accuracy))
            if arguments.state:
                torch.save(
                    {
                        "model": model.state_dict(), "teacher": teacher.state_dict(),
                        "optimizer": optimizer.state_dict(), "done": done,
                    },
                    arguments.state,
                )  # fmt: skip
            exported = time.monotonic()


def _provenance(arguments: argparse.Namespace, done: dict, accuracy: dict) -> dict:
    return {
        "made_by": "benchmarks/train_demo_clip.py",
        "date": datetime.now(UTC).date().isoformat(),
        "seed": arguments.seed,
        "scenes": "streams clip-training (seed as above) and clip-probe (seed 0) of the demo world",
        "frames_per_step": batches.FRAMES_PER_STEP,
        "captions_per_step": batches.CAPTIONS_PER_STEP,
        "patch_contrast": arguments.patch_contrast,
        "learning_rate": arguments.lr,
        "steps": done["step"],
        "minutes": round(done["seconds"] / 60, 1),
        "minutes_planned": arguments.minutes,
        "torch": torch.__version__,
        "probes": accuracy,
    }


if __name__ == "__main__":
    main()
