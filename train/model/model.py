"""R2Model: features of a batch in, predictions out. No loss and no decoding inside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, Int64, Num
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from r2t.store.errors import ConfigError
from r2t.train.data import Batch, mask_of, prior_cosines
from r2t.train.model.ablated_block import make_block
from r2t.train.model.config import R2Config
from r2t.train.model.feature_map import time_features
from r2t.train.model.heads import ConvHead, WordPooling, join_levels, split_levels
from r2t.train.model.looks import MakeLook, choose_look
from r2t.train.model.padding import Extents
from r2t.train.model.prepared_look import PreparedLook, map_video
from r2t.train.model.prior import PriorMap
from r2t.train.model.pyramid import Pyramid, PyramidPoints
from r2t.train.model.r2_block import BlockOutput
from r2t.train.model.tiled import VideoTokens

_MOST_NAMED = 3  # of what does not fit, in a message


@dataclass(frozen=True, eq=False)
class Predictions:
    """What the model says about a batch, as float32; points of all levels follow each other.

    `offsets` are the distances from a point to a moment's start and end in units of its stride,
    None without a boundary head. `saliency` is the cosine between frame and query. `layer_frames`
    and `layer_queries` are per CLIP layer, ascending, for the calibration losses. `clip_cosines` is
    the cosine of CLIP's own embeddings, None in a model without a prior. Numbers where `point_mask`
    or `frame_mask` is False mean nothing, unless `padding_counts`.
    """

    class_logits: Float[Tensor, "batch points"]
    offsets: Float[Tensor, "batch points 2"] | None
    saliency: Float[Tensor, "batch frames"]
    points: PyramidPoints
    point_mask: Bool[Tensor, "batch points"]
    frame_mask: Bool[Tensor, "batch frames"]
    layer_frames: Float[Tensor, "layers batch frames hidden"]
    layer_queries: Float[Tensor, "layers batch hidden"]
    clip_cosines: Float[Tensor, "batch frames"] | None
    padding_counts: bool = False

    def __repr__(self) -> str:
        batch, points = self.class_logits.shape
        return f"Predictions({batch} queries, {points} points, {self.saliency.shape[1]} frames)"

    @property
    def matching_points(self) -> Bool[Tensor, "batch points"]:
        """True at the points that may answer for a moment.

        Where padding counts, as in the official training, these are all: one just past the frames,
        at the very end of a moment that ends with its video, is part of the boundary loss.
        """
        return torch.ones_like(self.point_mask) if self.padding_counts else self.point_mask


@dataclass(frozen=True, eq=False)
class Refined:
    """What the R² Block made of a batch, before anything is predicted from it."""

    block: BlockOutput
    extents: Extents

    @property
    def num_queries(self) -> int:
        """How many queries there are."""
        return len(self.block.frames)


class R2Model(nn.Module):
    """R² Block, temporal pyramid and heads on top of frozen CLIP features.

    `make_look` says how patches are looked at, which changes no result but for rounding.
    """

    def __init__(self, config: R2Config, make_look: MakeLook = choose_look) -> None:
        super().__init__()
        self.config = config
        self.make_look = make_look
        self.block = make_block(config)
        self.pyramid = Pyramid(config.width, config.strides)
        self.word_pooling = WordPooling(config.width)
        self.class_head = ConvHead(config.width, 1)
        self.boundary_head = ConvHead(config.width, 2) if config.boundary_head else None
        # Official highlight-only weights hold it too, though nothing there reads it.
        self.level_scale = nn.Parameter(
            torch.ones(len(config.strides)), requires_grad=config.boundary_head
        )
        # The last to be made, so that all else begins with the same weights with and without it.
        self.prior_map = PriorMap(config.width) if config.prior else None

    def forward(self, batch: Batch) -> Predictions:
        """Predict; run under `torch.autocast`, only block and pyramid leave float32.

        Outside training every sample has the outputs it has alone, whatever the padding.
        """
        self._require_fit(batch)
        official = self.training and self.config.padding == "official"
        extents = (Extents.official if official else Extents.independent)(batch)
        look = self.make_look(self.config, batch, extents)
        return self.read(Refined(self.block(look, batch.query, extents), extents), batch.prior)

    def prepare(
        self,
        video: Num[Tensor, "layers frames tokens vision_width"],
        affine: Float32[Tensor, "2 layers vision_width"] | None = None,
    ) -> Float[Tensor, "layers frames seen hidden"]:
        """Compute what depends on a video alone, for `refine`; eight-bit codes come with `affine`.

        The result takes 4 · width bytes a token.
        """
        times = None
        if self.config.temporal_features:
            lengths = torch.full((1,), video.shape[1], device=video.device)
            times = time_features(lengths, video.shape[1])
        affines = None if affine is None else affine[None]
        return map_video(self.block, VideoTokens(video[None], affines, times))

    def refine(
        self,
        prepared: Float[Tensor, "layers frames tokens hidden"],
        query: Float[Tensor, "batch layers words text_width"],
        num_words: Int64[Tensor, " batch"],
    ) -> Refined:
        """Compute what queries of one prepared video have in it, each as if it were asked alone.

        `read` makes predictions of it.
        """
        num_frames = prepared.shape[1]
        extents = Extents.alone(
            torch.full_like(num_words, num_frames),
            torch.ones(len(query), num_frames, dtype=torch.bool, device=query.device),
            mask_of(num_words, query.shape[2]),
        )
        look = PreparedLook(prepared, extents.competing_words)
        return Refined(self.block(look, query, extents), extents)

    def read(
        self, refined: Refined, prior: Float32[Tensor, "batch frames 2"] | None = None
    ) -> Predictions:
        """Predict from refined frames and, in a model that takes it, the prior."""
        frames, cosines = refined.block.frames, None
        if self.prior_map is not None:
            if prior is None:
                raise ConfigError(
                    "the model takes CLIP's similarity of frames and sentence as a prior, and was "
                    "given none: give features with embeddings"
                )
            frames, cosines = self.prior_map(frames, prior), prior_cosines(prior)
        frames = F.relu(frames)
        levels = [level.float() for level in self.pyramid(frames)]
        with torch.autocast(frames.device.type, enabled=False):
            return self._predict(frames.float(), levels, refined, cosines)

    def _predict(
        self, frames: Tensor, levels: list[Tensor], refined: Refined, cosines: Tensor | None
    ) -> Predictions:
        block, extents = refined.block, refined.extents
        strides = self.config.strides[: len(levels)]
        cell_masks = [extents.cell_mask(stride) for stride in strides]
        keeps = cell_masks if extents.isolated else [torch.ones_like(mask) for mask in cell_masks]
        num_cells = [cells.shape[1] for cells in levels]
        joined, keep = join_levels(levels), join_levels(keeps)
        logits = split_levels(self.class_head(joined, keep), num_cells)
        offsets = None
        if self.boundary_head is not None:
            raw = split_levels(self.boundary_head(joined, keep), num_cells)
            scales = self.level_scale[: len(levels)]
            scaled = [level.exp() * scale for level, scale in zip(raw, scales, strict=True)]
            offsets = torch.cat(scaled, dim=1)
        query = self.word_pooling(block.words.float(), extents.word_mask)
        return Predictions(
            class_logits=torch.cat(logits, dim=1).squeeze(-1),
            offsets=offsets,
            saliency=F.cosine_similarity(frames, query[:, None], dim=-1),
            points=PyramidPoints.build(self.config.strides, frames.shape[1], frames.device),
            point_mask=torch.cat(cell_masks, dim=1),
            frame_mask=extents.frame_mask,
            layer_frames=block.layer_frames.float(),
            layer_queries=self.word_pooling(block.layer_words.float(), extents.word_mask),
            clip_cosines=cosines,
            padding_counts=not extents.isolated,
        )

    def _require_fit(self, batch: Batch) -> None:
        given = (batch.videos.shape[1], batch.videos.shape[-1], batch.query.shape[-1])
        fitting = (self.config.num_layers, self.config.vision_width, self.config.text_width)
        if given != fitting:
            raise ConfigError(
                f"the batch has (layers, vision width, text width) = {given}, the model was made "
                f"for {fitting}: use features of the CLIP model and layers it was trained with"
            )


class _NoDraws(TorchFunctionMode):
    """Skip random initialisation: tensors on "meta" hold no numbers.

    Torch would import its compiler for it, which takes longer than building the model.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in (Tensor.normal_, Tensor.uniform_):
            return args[0]
        return func(*args, **(kwargs or {}))


def expected_shapes(config: R2Config) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a model's weights without taking memory for them."""
    with torch.device("meta"), _NoDraws():
        state = R2Model(config).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def shape_problems(config: R2Config, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Name weights that do not fit a model, given by their shapes; empty where all do."""
    expected = expected_shapes(config)
    problems = [f"{name} is missing" for name in expected if name not in shapes]
    problems += [f"{name} is unknown" for name in shapes if name not in expected]
    problems += [
        f"{name} is {list(shapes[name])}, not {list(shape)}"
        for name, shape in expected.items()
        if name in shapes and shapes[name] != shape
    ]
    more = f" and {len(problems) - _MOST_NAMED} more" if len(problems) > _MOST_NAMED else ""
    return "; ".join(problems[:_MOST_NAMED]) + more
