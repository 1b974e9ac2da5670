"""CLIP on the device: the same tokens as on the CPU, less at a time where memory ends, its pace."""

from __future__ import annotations

import warnings
from typing import Any, get_args
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray

from gpu_check.films import make_films, make_tiny_clip
from gpu_check.measuring import free_memory, seconds_of
from gpu_check.report import Report
from gpu_check.setting import Setting
from r2t.extract.clip.clip import FrozenClip
from r2t.extract.config import ExtractConfig, default_num_workers
from r2t.extract.pipeline import extract_videos
from r2t.store import FeatureStore
from r2t.store.schema import StorageDtype

MODEL = "ViT-B-32-quickgelu"
FRAME_RATE_FPS = 2.0
LIMITS = {"float32": 1e-3, "float16": 2e-2}  # tokens are kept in float16 either way
SENTENCE = "a dog catches a frisbee"
SPARE_BYTES = 2**29  # left free where memory is to run out: enough for some hundred pictures
MANY_TIMES = 32  # as many pictures as compared, so that they do not fit there
WINDOWS = 8  # of frames, to time encoding alone


def run(setting: Setting, report: Report) -> None:
    """Compare, run out of memory, and time."""
    warnings.simplefilter("ignore")  # random weights, and what films of noise are warned of
    clip_folder = make_tiny_clip(setting.folder / "clip") if setting.small else None

    def load(device: torch.device, precision: str) -> FrozenClip:
        if clip_folder is not None:
            return FrozenClip.load(str(clip_folder), device=device, precision=precision)
        return FrozenClip.load(MODEL, "none", device=device, precision=precision)

    on_cpu = load(torch.device("cpu"), "float32")
    shape = (setting.sizes.num_pictures, 3, on_cpu.image_size, on_cpu.image_size)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    expected = on_cpu.encode_frames(pixels).tokens, on_cpu.encode_query(SENTENCE).tokens
    clips: list[FrozenClip] = []
    for precision in LIMITS:

        def compare(precision: str = precision) -> None:
            clip = load(setting.device, precision)
            if setting.on_gpu or precision == "float32":
                clips[:] = [clip]
            _compare(report, clip, pixels, expected)

        report.verify(f"tokens, {precision}", compare)
    if not clips:
        return
    (clip,) = clips
    report.verify("too large a batch", lambda: _too_large(report, clip, pixels))
    if setting.on_gpu:
        report.verify("memory runs out", lambda: _out_of_memory(setting, report, clip, pixels))
        free_memory(setting.device)
    report.verify("encoding alone", lambda: _encode(setting, report, clip))
    measure_pipeline(setting, report, clip)


def _compare(
    report: Report,
    clip: FrozenClip,
    pixels: NDArray[np.uint8],
    expected: tuple[NDArray[Any], NDArray[Any]],
) -> None:
    found = clip.encode_frames(pixels).tokens, clip.encode_query(SENTENCE).tokens
    for name, mine, truth in zip(("frames", "words"), found, expected, strict=True):
        errors = [_error(layer, other) for layer, other in zip(mine, truth, strict=True)]
        worst = int(np.argmax(errors))
        limit = LIMITS[clip.precision]
        report.within(f"{name}, {clip.precision}", errors[worst], limit, f"layer {worst + 1}")


def _error(found: NDArray[Any], expected: NDArray[Any]) -> float:
    truth = expected.astype(np.float64)
    return float(np.linalg.norm(found - truth) / np.linalg.norm(truth))


def _too_large(report: Report, clip: FrozenClip, pixels: NDArray[np.uint8]) -> None:
    """Let the model refuse more than a third of a batch."""
    before, truth = clip.batch_size, clip.encode_frames(pixels).tokens
    clip.frames.batch_size = len(pixels)
    most = max(1, len(pixels) // 3)
    encode = clip.towers.visual.forward_intermediates

    def refuse(pictures: torch.Tensor, *args: Any, **settings: Any) -> Any:
        if len(pictures) > most:
            raise torch.OutOfMemoryError("CUDA out of memory, as this check has it")
        return encode(pictures, *args, **settings)

    with patch.object(clip.towers.visual, "forward_intermediates", refuse):
        found = clip.encode_frames(pixels).tokens
    _report_halving(report, "too large a batch", clip, (found, truth), len(pixels))
    clip.frames.batch_size = before


def _out_of_memory(
    setting: Setting, report: Report, clip: FrozenClip, pixels: NDArray[np.uint8]
) -> None:
    """Take the device's memory away, but for what some pictures need."""
    device = setting.device
    many = np.concatenate([pixels] * MANY_TIMES)
    before, truth = clip.batch_size, clip.encode_frames(many).tokens
    clip.frames.batch_size = len(many)
    free_memory(device)
    _, total = torch.cuda.mem_get_info(device)
    allowed = torch.cuda.memory_reserved(device) + SPARE_BYTES
    torch.cuda.set_per_process_memory_fraction(allowed / total, device)
    try:
        found = clip.encode_frames(many).tokens
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    _report_halving(report, "memory runs out", clip, (found, truth), len(many))
    clip.frames.batch_size = before


def _report_halving(
    report: Report,
    name: str,
    clip: FrozenClip,
    tokens: tuple[NDArray[Any], NDArray[Any]],
    batch_size: int,
) -> None:
    error = _error(*tokens)
    text = f"batches of {batch_size} became {clip.batch_size}, tokens differ by {error:.0e}"
    limit = LIMITS[clip.precision]
    report.check(name, text, holds=clip.batch_size < batch_size and error <= limit)


def _encode(setting: Setting, report: Report, clip: FrozenClip) -> None:
    shape = (clip.batch_size, 3, clip.image_size, clip.image_size)
    window = np.random.default_rng(1).integers(0, 256, shape, np.uint8)

    def encode() -> None:
        for _ in range(WINDOWS):
            clip.encode_frames(window)

    clip.encode_frames(window)
    seconds = seconds_of(encode, setting.device)
    note = f"{clip.precision}, batches of {clip.batch_size}, from and to the host"
    report.measure("encoding alone", WINDOWS * len(window) / seconds, "frames/s", note)


def measure_pipeline(setting: Setting, report: Report, clip: FrozenClip) -> None:
    films = setting.folder / "films"
    films.mkdir()
    videos = make_films(films, setting.sizes, small=setting.small)
    dtypes: tuple[StorageDtype, ...] = get_args(StorageDtype)
    for dtype in dtypes:

        def measure(dtype: StorageDtype = dtype) -> None:
            workers = 1 if setting.small else default_num_workers()
            config = ExtractConfig(frame_rate=FRAME_RATE_FPS, dtype=dtype, num_workers=workers)
            spec = clip.spec(FRAME_RATE_FPS, dtype)
            path = setting.folder / f"extracted-{dtype}.zarr"
            store = FeatureStore.create(path, spec, embedding=clip.embedding)
            done = extract_videos(config, clip, store, videos, [])
            text = f"{len(done.done)} of {len(videos)} films extracted"
            report.check(f"films, {dtype}", text, holds=done.complete)
            rate = done.num_frames / done.seconds
            report.measure(f"whole, {dtype}", rate, "frames/s", f"{workers} decoders")
            for stage in done.stages:
                busy = f"busy {stage.utilisation(done.seconds):.0%}"
                report.measure(f"{stage.name}, {dtype}", stage.frames_per_second, "frames/s", busy)

        report.verify(f"films, {dtype}", measure)
