"""What extraction works on, made on the spot: films, and a small CLIP."""

from __future__ import annotations

import json
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from open_clip.model import CLIP
from safetensors.torch import save_file

from gpu_check.setting import Sizes

PATCH = 8  # pixels
TINY_CLIP = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {
        "image_size": 32,
        "layers": 4,
        "width": 32,
        "head_width": 16,
        "patch_size": 16,
    },
    "text_cfg": {
        "context_length": 16,
        "vocab_size": 49408,
        "width": 16,
        "heads": 2,
        "layers": 4,
    },
}


def make_films(folder: Path, sizes: Sizes, *, small: bool) -> list[Path]:
    """Render a film of moving patches of colour, and copy it under other names."""
    width, height, rate = (96, 64, 5) if small else (640, 360, 25)
    first = folder / "film0.mp4"
    patches = np.random.default_rng(0).integers(
        0, 256, (height // PATCH, 2 * width // PATCH, 3), np.uint8
    )
    scenery = patches.repeat(PATCH, axis=0).repeat(PATCH, axis=1)
    with av.open(str(first), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, rate)
        stream.codec_context.options = {"preset": "ultrafast", "g": str(2 * rate)}
        for number in range(sizes.clip_seconds * rate):
            left = number % width
            picture = np.ascontiguousarray(scenery[:, left : left + width])
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    films = [folder / f"film{number}.mp4" for number in range(sizes.num_clips)]
    for film in films[1:]:
        shutil.copyfile(first, film)
    return films


def make_tiny_clip(folder: Path) -> Path:
    """Write a CLIP of four layers and 5 tokens with random weights, in open_clip's format."""
    folder.mkdir()
    config = {"model_cfg": TINY_CLIP, "preprocess_cfg": {"mean": [0.4, 0.5, 0.6]}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(5)
    network = CLIP(**TINY_CLIP)
    half = {name: tensor.half() for name, tensor in network.state_dict().items()}
    save_file(half, folder / "open_clip_model.safetensors")
    return folder
