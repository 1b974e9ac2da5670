"""Samples and batches: features of (video, query) pairs, padded, with their training targets.

Nothing here reads a store. `collate` is the plain way from samples to a `Batch`; readers fill the
same batch in place. Padding is zeros and lengths, never a value that has to be searched for in the
features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64, Num
from torch import Tensor

from r2t.store.errors import ConfigError

NO_POSITIVE = -1


@dataclass(frozen=True, eq=False)
class Labels:
    """Ground truth of one sample on its frame grid.

    `moments` are in frames, a real number from 0 to the number of frames. `saliency` lies in
    [0, 1]. `positive_frame` is the frame that contrastive losses pull towards the query, or
    `NO_POSITIVE`, which leaves the sample out of those losses.
    """

    moments: Float[np.ndarray, "moments 2"]
    saliency: Float[np.ndarray, " frames"]
    positive_frame: int


@dataclass(frozen=True, eq=False)
class Binding:
    """An annotation laid on a frame grid: labels but for the positive frame, which is drawn anew.

    `saliency` may be shorter than the video: annotators' clips can end before the last sampled
    frame (by one frame in half of TVSum). `num_adjusted` counts the moments that were clamped to
    the video or widened to a frame.
    """

    moments: Float[np.ndarray, "moments 2"]
    saliency: Float[np.ndarray, " frames"]
    candidates: Int64[np.ndarray, " candidates"]
    num_adjusted: int

    def draw(self, generator: np.random.Generator) -> Labels:
        """Pick a positive frame uniformly among the candidates."""
        positive = NO_POSITIVE
        if len(self.candidates):  # the same draw as `choice`, which takes three times as long
            positive = int(self.candidates[generator.integers(len(self.candidates))])
        return Labels(self.moments, self.saliency, positive)


@dataclass(frozen=True, eq=False)
class Sample:
    """Features of one (video, query) pair; layers ascend."""

    query_id: str
    video: Float[Tensor, "layers frames tokens width"]
    query: Float[Tensor, "query_layers words text_width"]
    duration_seconds: float
    frame_rate_fps: float
    labels: Labels | None = None

    def __post_init__(self) -> None:
        if self.video.shape[0] != self.query.shape[0]:
            raise ConfigError(
                f"query {self.query_id!r}: {self.video.shape[0]} layers of video and "
                f"{self.query.shape[0]} of query; the R² Block pairs them one to one"
            )
        if 0 in self.video.shape or 0 in self.query.shape:
            raise ConfigError(
                f"query {self.query_id!r}: no features in {self.video.shape = } or "
                f"{self.query.shape = }"
            )
        if self.labels is not None and len(self.labels.saliency) != self.video.shape[1]:
            raise ConfigError(
                f"query {self.query_id!r}: saliency of {len(self.labels.saliency)} frames for a "
                f"video of {self.video.shape[1]}; use Sample.with_labels, which cuts the video"
            )

    def with_labels(self, labels: Labels) -> Sample:
        """Attach labels, cutting the frames past the last labelled one as the benchmarks do."""
        return replace(self, video=self.video[:, : len(labels.saliency)], labels=labels)


@dataclass(frozen=True, eq=False)
class Targets:
    """Labels of a batch; `moments` are padded with zeros, to one at least.

    `num_moments` counts the real ones.
    """

    moments: Float[Tensor, "batch max_moments 2"]
    num_moments: Int64[Tensor, " batch"]
    saliency: Float[Tensor, "batch frames"]
    positive_frame: Int64[Tensor, " batch"]

    def map(self, change: Callable[[Tensor], Tensor]) -> Targets:
        """Change every tensor, such as its device."""
        return Targets(
            moments=change(self.moments),
            num_moments=change(self.num_moments),
            saliency=change(self.saliency),
            positive_frame=change(self.positive_frame),
        )


@dataclass(frozen=True, eq=False)
class Batch:
    """Features padded with zeros to the longest sample; layers ascend, so -1 is CLIP's last block.

    `videos` holds each video once, as it is stored, in the order in which the queries first name
    them: query b asks about `videos[video_of_query[b]]`, all of whose queries have the same
    `num_frames`. Eight-bit codes come with `affine`, their scale and offset, to be decoded on the
    device that computes. `prior` is what `prior_features` says of each query and its own video, for
    models that take it. Durations and frame rates stay in float64 on the host: only decoding to
    seconds needs them. `num_read_bytes` were read from the store for it.

    Where several processes train, this is one's part of a batch, but for `targets`, which are those
    of the whole. `rank_counts` says how many queries of it each process has; one that has none
    holds a query that does not count.
    """

    query_ids: tuple[str, ...]
    videos: Num[Tensor, "videos layers frames tokens width"]
    video_of_query: Int64[Tensor, " batch"]
    num_frames: Int64[Tensor, " batch"]
    query: Float[Tensor, "batch layers words text_width"]
    num_words: Int64[Tensor, " batch"]
    durations_seconds: Float64[Tensor, " batch"]
    frame_rates_fps: Float64[Tensor, " batch"]
    affine: Float32[Tensor, "videos 2 layers width"] | None = None
    prior: Float32[Tensor, "batch frames 2"] | None = None
    targets: Targets | None = None
    num_read_bytes: int = 0
    rank_counts: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.query_ids)

    def __repr__(self) -> str:
        return (
            f"Batch({len(self)} queries, videos={list(self.videos.shape)}, "
            f"query={list(self.query.shape)}, {'labelled' if self.targets else 'unlabelled'})"
        )

    @property
    def video(self) -> Float[Tensor, "batch layers frames tokens width"]:
        """Features of each query's own video: a view unless queries share one or codes are int8."""
        if self.affine is None:
            return self.for_queries(self.videos)
        scale, offset = self.affine[:, :, :, None, None].unbind(1)
        decoded = self.videos.float().mul_(scale).add_(offset)
        real = mask_of(self.video_num_frames, self.videos.shape[2])
        return self.for_queries(decoded.mul_(real[:, None, :, None, None]))

    def for_queries(self, per_video: Num[Tensor, "videos ..."]) -> Num[Tensor, "batch ..."]:
        """Give each query the row of its video; no copy where no two queries share one."""
        if len(per_video) == len(self):  # in order of first use, so they are in the queries' order
            return per_video
        return per_video[self.video_of_query]

    @property
    def video_num_frames(self) -> Int64[Tensor, " videos"]:
        """Number of real frames of each video."""
        lengths = self.num_frames.new_zeros(len(self.videos))
        return lengths.scatter(0, self.video_of_query, self.num_frames)

    @property
    def frame_mask(self) -> Bool[Tensor, "batch frames"]:
        """True where a frame is real."""
        return mask_of(self.num_frames, self.videos.shape[2])

    @property
    def word_mask(self) -> Bool[Tensor, "batch words"]:
        """True where a query token is real."""
        return mask_of(self.num_words, self.query.shape[2])

    def to(self, device: torch.device | str) -> Batch:
        """Copy what the model reads to a device, without waiting if the memory is pinned."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))

    def clone(self) -> Batch:
        """Copy the features, to keep a batch whose memory its reader is going to use again."""
        return self.map(torch.clone)

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return replace(
            self,
            videos=change(self.videos),
            video_of_query=change(self.video_of_query),
            num_frames=change(self.num_frames),
            query=change(self.query),
            num_words=change(self.num_words),
            affine=None if self.affine is None else change(self.affine),
            prior=None if self.prior is None else change(self.prior),
            targets=None if self.targets is None else self.targets.map(change),
        )


def mask_of(lengths: Int64[Tensor, " batch"], size: int) -> Bool[Tensor, "batch size"]:
    """Return True at the first `lengths[b]` places of each row."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def collate(samples: list[Sample]) -> Batch:
    """Pad samples into a batch; it has targets if every sample has labels."""
    if not samples:
        raise ConfigError("a batch needs at least one sample")
    shapes = {(s.video.shape[0], *s.video.shape[2:], s.query.shape[2]) for s in samples}
    if len(shapes) > 1:
        raise ConfigError(
            f"samples differ in (layers, tokens, width, text width): {sorted(shapes)}; "
            "a batch needs features of one store"
        )
    labels = [sample.labels for sample in samples if sample.labels is not None]
    if labels and len(labels) < len(samples):
        raise ConfigError(f"{len(labels)} of {len(samples)} samples have labels: all or none must")
    num_frames = [sample.video.shape[1] for sample in samples]
    return Batch(
        query_ids=tuple(sample.query_id for sample in samples),
        videos=pad_second_axis([sample.video for sample in samples]),
        video_of_query=torch.arange(len(samples)),
        num_frames=torch.tensor(num_frames),
        query=pad_second_axis([sample.query for sample in samples]),
        num_words=torch.tensor([sample.query.shape[1] for sample in samples]),
        durations_seconds=float64_seconds([sample.duration_seconds for sample in samples]),
        frame_rates_fps=float64_seconds([sample.frame_rate_fps for sample in samples]),
        targets=collate_labels(labels, max(num_frames)) if labels else None,
    )


def collate_labels(labels: Sequence[Labels], num_frames: int) -> Targets:
    """Pad labels to videos of so many frames."""
    num_moments = [len(label.moments) for label in labels]
    # Arrays, since a row of a tensor takes ten times as long to assign.
    moments = np.zeros((len(labels), max(1, *num_moments), 2), np.float32)
    saliency = np.zeros((len(labels), num_frames), np.float32)
    for row, label in enumerate(labels):
        moments[row, : len(label.moments)] = label.moments
        saliency[row, : len(label.saliency)] = label.saliency
    return Targets(
        moments=torch.from_numpy(moments),
        num_moments=torch.tensor(num_moments),
        saliency=torch.from_numpy(saliency),
        positive_frame=torch.tensor([label.positive_frame for label in labels]),
    )


def pad_second_axis(tensors: list[Tensor], out: Tensor | None = None) -> Tensor:
    """Stack tensors that differ in their second axis, with zeros after the shorter ones."""
    first = tensors[0]
    longest = max(tensor.shape[1] for tensor in tensors)
    if out is None:
        out = first.new_empty(len(tensors), first.shape[0], longest, *first.shape[2:])
    for row, tensor in zip(out, tensors, strict=True):
        row[:, : tensor.shape[1]] = tensor
        row[:, tensor.shape[1] :] = 0
    return out


def float64_seconds(values: list[float]) -> Float64[Tensor, " batch"]:
    """Check durations or frame rates, and keep them precise."""
    if not all(math.isfinite(value) and value > 0 for value in values):
        raise ConfigError(f"durations and frame rates must be positive: {values}")
    return torch.tensor(values, dtype=torch.float64)
