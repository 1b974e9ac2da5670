"""Captioned frames of the demo world for train_demo_clip.py, and the probes of what was learned."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor
from torch.nn import functional as F

from r2t.extract.demo.render import Painter
from r2t.extract.demo.scene import (
    COLOURS,
    MIDDLE_RADIUS,
    PLACES,
    SHAPES,
    SIDE,
    SIZES,
    VERBS,
    Scene,
    Sighting,
    scene_generator,
)
from r2t.extract.demo.sentences import Description, describe
from r2t.extract.demo.staging import sample_scene

MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
SCENES_PER_STEP, FRAMES_PER_SCENE = 20, 4
FRAMES_PER_STEP, CAPTIONS_PER_STEP = SCENES_PER_STEP * FRAMES_PER_SCENE, 80
MAX_SHAPES = 4
CHOICES = {"colour": COLOURS, "shape": SHAPES, "size": SIZES, "place": PLACES, "verb": VERBS}


@dataclass(frozen=True)
class CaptionedFrames:
    """Frames, captions, and which is true of what; shape slots beyond those seen are never true."""

    images: Tensor  # [frames, 3, side, side], normalised
    tokens: Tensor  # [captions, context]
    truth: Tensor  # bool [frames, slots, captions]
    owner: Tensor  # int64 [frames, patches]: the slot that covers the patch, -1 none
    looks: Tensor  # int64 [frames, slots, 2]: colour, shape
    poses: Tensor  # [frames, slots, 5]: x, y, radius, and cos, sin of the tilt within its symmetry

    def _of_patches(self, slots: Tensor) -> Tensor:
        index = self.owner.clamp(min=0)[..., None].expand(-1, -1, slots.shape[-1])
        return slots.gather(1, index)

    def patch_truth(self) -> Tensor:
        return self._of_patches(self.truth)

    def patch_colour(self) -> Tensor:
        colour = self._of_patches(self.looks)[..., 0]
        return torch.where(self.owner >= 0, colour, len(COLOURS))

    def patch_shape(self) -> Tensor:
        shape = self._of_patches(self.looks)[..., 1]
        return torch.where(self.owner >= 0, shape, len(SHAPES))

    def measures(self) -> Tensor:
        """Return what a patch should know of its shape: place in the picture, radius, tilt."""
        pose = self._of_patches(self.poses)
        place = (pose[..., :2] - SIDE / 2) / (SIDE / 4)
        return torch.cat([place, (pose[..., 2:3] - MIDDLE_RADIUS) / 2.5, pose[..., 3:]], dim=-1)


def patch_centres(patch: int) -> Tensor:
    """Return (x, y) of the patch centres in row-major order: [patches, 2]."""
    axis = torch.arange(SIDE // patch) * patch + patch / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=-1)


def sample_batch(tokenizer: SimpleTokenizer, *, seed: int, step: int) -> CaptionedFrames:
    """Draw fresh scenes, frames of them at random times, and captions half of which are false."""
    rng = np.random.default_rng([seed, step])
    pixels: list[np.ndarray] = []
    seen: list[list[Sighting]] = []
    for index in range(step * SCENES_PER_STEP, (step + 1) * SCENES_PER_STEP):
        scene = sample_scene(scene_generator("clip-training", seed, index))
        paint = Painter(scene)
        for time in rng.uniform(0, scene.duration_seconds, FRAMES_PER_SCENE):
            pixels.append(paint(float(time)))
            seen.append(list(scene.sightings(float(time))))
    captions = _sample_captions([s for frame in seen for s in frame], rng)
    owner, looks, poses = _slots(seen)
    return CaptionedFrames(
        images=_degrade(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float(), rng),
        tokens=tokenizer([d.sentence(variant=int(rng.integers(2))) for d in captions]),
        truth=_truth(seen, captions),
        owner=owner,
        looks=looks,
        poses=poses,
    )


def _sample_captions(sightings: list[Sighting], rng: Generator) -> list[Description]:
    chosen = rng.choice(len(sightings), CAPTIONS_PER_STEP, replace=False)
    captions = [describe(sightings[i], rng) for i in chosen]
    return captions[::2] + [change_one_word(caption, rng) for caption in captions[1::2]]


def change_one_word(description: Description, rng: Generator) -> Description:
    """Return the description with one of its words exchanged for another of its kind."""
    said = [f.name for f in fields(description) if getattr(description, f.name) is not None]
    name = said[rng.integers(len(said))]
    others = [c for c in CHOICES[name] if c != getattr(description, name)]
    return replace(description, **{name: others[rng.integers(len(others))]})


def _truth(seen: list[list[Sighting]], captions: list[Description]) -> Tensor:
    """Compare every caption with every shape of every frame; a verb is true for the whole visit."""
    said = torch.tensor(
        [
            [-1 if (v := getattr(d, n)) is None else CHOICES[n].index(v) for n in CHOICES]
            for d in captions
        ]
    )
    has = torch.zeros(len(seen), MAX_SHAPES, sum(map(len, CHOICES.values())) + 1, dtype=torch.bool)
    for frame, sightings in enumerate(seen):
        for slot, s in enumerate(sightings):
            words = {
                "colour": [s.actor.colour], "shape": [s.actor.shape], "size": [s.pose.size],
                "place": s.pose.places, "verb": [act.verb for act in s.visit.acts],
            }  # fmt: skip
            start = 0
            for name, choices in CHOICES.items():
                for word in words[name]:
                    has[frame, slot, start + choices.index(word)] = True
                start += len(choices)
            has[frame, slot, -1] = True  # what a sentence leaves open is true of every shape
    starts = np.cumsum([0, *map(len, CHOICES.values())])[:-1]
    columns = torch.where(said < 0, has.shape[-1] - 1, said + torch.from_numpy(starts))
    return has[:, :, columns].all(-1)


def _slots(seen: list[list[Sighting]], patch: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    looks = torch.zeros(len(seen), MAX_SHAPES, 2, dtype=torch.int64)
    poses = torch.full((len(seen), MAX_SHAPES, 5), -1e3)
    for frame, sightings in enumerate(seen):
        for slot, s in enumerate(sightings):
            looks[frame, slot, 0] = COLOURS.index(s.actor.colour)
            looks[frame, slot, 1] = SHAPES.index(s.actor.shape)
            symmetry = {"triangle": 3, "square": 4, "cross": 4}.get(s.actor.shape, 0)
            turn = np.radians(symmetry * s.pose.angle)
            poses[frame, slot] = torch.tensor(
                [s.pose.x, s.pose.y, s.pose.radius, np.cos(turn), np.sin(turn)]
            )
    away = (poses[:, None, :, :2] - patch_centres(patch)[:, None]).abs().amax(-1)
    covered = away < patch / 2 + 0.6 * poses[:, None, :, 2].clamp(min=0)
    nearest = torch.where(covered, away, torch.inf).min(dim=-1)
    owner = torch.where(nearest.values.isfinite(), nearest.indices, -1)
    return owner, looks, poses


def _degrade(images: Tensor, rng: Generator) -> Tensor:
    """Do to frames what a video codec does: half-resolution colour, some noise, other levels."""
    luma = images.mean(dim=1, keepdim=True)
    chroma = F.interpolate(F.avg_pool2d(images - luma, 2), scale_factor=2, mode="bilinear")
    subsampled = torch.from_numpy(rng.random((len(images), 1, 1, 1)) < 0.7)
    images = torch.where(subsampled, luma + chroma, images)
    gain = torch.from_numpy(rng.uniform(0.92, 1.08, (len(images), 1, 1, 1)).astype(np.float32))
    noise = torch.from_numpy(rng.normal(0, 2.5, images.shape).astype(np.float32))
    return normalise((gain * images + noise).clamp(0, 255))


def normalise(images: Tensor) -> Tensor:
    """Map RGB 0…255 [frames, 3, side, side] to what the vision tower takes."""
    return (images / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


@dataclass(frozen=True)
class Probe:
    """A frame and sentences that differ in one word, exactly one of them true (the first)."""

    asks: str
    pixels: np.ndarray
    patch: int
    options: tuple[str, ...]


def probe_set(*, num_scenes: int, seed: int = 0) -> list[Probe]:
    """Draw probes for colour, shape, size and place from scenes that are not trained on."""
    probes: list[Probe] = []
    for index in range(num_scenes):
        rng = scene_generator("clip-probe", seed, index)
        scene: Scene = sample_scene(rng)
        paint = Painter(scene)
        for time in rng.uniform(0, scene.duration_seconds, 4):
            sightings = list(scene.sightings(float(time)))
            if sightings:
                target = sightings[rng.integers(len(sightings))]
                probes += _probes_of(paint(float(time)), target, sightings)
    return probes


def _probes_of(pixels: np.ndarray, target: Sighting, seen: list[Sighting]) -> list[Probe]:
    look = Description(colour=target.actor.colour, shape=target.actor.shape)
    side, height = target.pose.places
    true = {
        "colour": look, "shape": look, "size": replace(look, size=target.pose.size),
        "left or right": replace(look, place=side), "top or bottom": replace(look, place=height),
    }  # fmt: skip
    probes: list[Probe] = []
    for asks, description in true.items():
        name = asks if asks in CHOICES else "place"
        sides = {"left or right": PLACES[:2], "top or bottom": PLACES[2:]}
        choices = sides.get(asks) or CHOICES[name]
        others = [c for c in choices if c != getattr(description, name)]
        false = [replace(description, **{name: other}) for other in others]
        if not any(d.matches(s) for d in false for s in seen):
            column, row = int(target.pose.x) // 16, int(target.pose.y) // 16
            options = tuple(d.sentence() for d in (description, *false))
            probes.append(Probe(asks, pixels, 4 * row + column, options))
    return probes


@torch.no_grad()
def probe(
    model: Any, tokenizer: SimpleTokenizer, probes: list[Probe]
) -> dict[str, dict[str, float]]:
    """Return, per question, how often the true sentence wins: by the frame and by its patch."""
    model.eval()
    sentences = sorted({option for p in probes for option in p.options})
    text = F.normalize(model.encode_text(tokenizer(sentences)), dim=-1)
    rows = {sentence: i for i, sentence in enumerate(sentences)}
    images = torch.from_numpy(np.stack([p.pixels for p in probes])).permute(0, 3, 1, 2).float()
    parts = [model.visual(part) for part in normalise(images).split(256)]
    frames = F.normalize(torch.cat([pooled for pooled, _ in parts]), dim=-1)
    patches = F.normalize(torch.cat([tokens for _, tokens in parts]) @ model.visual.proj, dim=-1)
    model.train()
    answers: dict[str, list[tuple[bool, bool, float]]] = {}
    for i, p in enumerate(probes):
        options = text[[rows[option] for option in p.options]]
        by_frame = bool((options @ frames[i]).argmax() == 0)
        by_patch = bool((options @ patches[i, p.patch]).argmax() == 0)
        answers.setdefault(p.asks, []).append((by_frame, by_patch, 1 / len(options)))
    return {
        asks: dict(
            zip(("frame", "patch", "chance"), np.mean(rows, axis=0).round(3).tolist(), strict=True)
        )
        for asks, rows in answers.items()
    }
