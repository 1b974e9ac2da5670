"""A CLIP of four layers, 32 pixels and 5 tokens with random weights, in open_clip's format."""

from __future__ import annotations

import json
from pathlib import Path

NUM_TOKENS = 5
VISION_WIDTH = 32
TEXT_WIDTH = 16


def make_tiny_clip(folder: Path, *, context_length: int = 16) -> Path:
    """Write the model to a folder, which must be new; it takes so many word pieces."""
    import torch
    from open_clip.model import CLIP
    from safetensors.torch import save_file

    vision = {"image_size": 32, "layers": 4, "width": VISION_WIDTH}
    vision |= {"head_width": 16, "patch_size": 16}
    text = {"context_length": context_length, "vocab_size": 49408, "width": TEXT_WIDTH}
    text |= {"heads": 2, "layers": 4}
    model = {"embed_dim": 16, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    config = {"model_cfg": model, "preprocess_cfg": {"mean": [0.4, 0.5, 0.6]}}
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = CLIP(**model)
    half = {name: tensor.half() for name, tensor in network.state_dict().items()}
    save_file(half, folder / "open_clip_model.safetensors")
    return folder
