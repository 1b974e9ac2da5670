"""The CLIP that ships with the demo: open_clip's own, small, and it has learned its world."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from safetensors import safe_open
from safetensors.torch import load_file
from torch.nn import functional as F

from r2t.extract.demo.render import Painter
from r2t.extract.demo.scene import COLOURS, scene_generator
from r2t.extract.demo.sentences import Description, every_description
from r2t.extract.demo.staging import sample_scene

FOLDER = Path(str(files("r2t.extract.demo") / "clip"))
CONFIG = json.loads((FOLDER / "open_clip_config.json").read_text())
CONTEXT_LENGTH = CONFIG["model_cfg"]["text_cfg"]["context_length"]


@pytest.fixture(scope="module")
def tokenizer() -> SimpleTokenizer:
    return SimpleTokenizer(str(FOLDER / "merges.txt.gz"), context_length=CONTEXT_LENGTH)


@pytest.fixture(scope="module")
def model() -> CLIP:
    clip = CLIP(**CONFIG["model_cfg"])
    weights = load_file(FOLDER / "open_clip_model.safetensors")
    clip.load_state_dict({name: weight.float() for name, weight in weights.items()})
    return clip.eval()


def test_it_is_small_and_deep_enough() -> None:
    assert sum(path.stat().st_size for path in FOLDER.glob("*.*")) <= 4_000_000
    with safe_open(FOLDER / "open_clip_model.safetensors", "pt") as weights:
        assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"F16"}  # noqa: SIM118
    assert CONFIG["model_cfg"]["vision_cfg"]["layers"] >= 6
    assert CONFIG["model_cfg"]["text_cfg"]["layers"] >= 6


def test_its_provenance_says_where_it_comes_from() -> None:
    provenance = json.loads((FOLDER / "provenance.json").read_text())
    assert (Path(__file__).parents[3] / provenance["made_by"]).exists()
    assert {"date", "seed", "steps", "scenes", "probes"} <= set(provenance)


def test_its_vocabulary_has_every_word_of_the_world_whole(tokenizer: SimpleTokenizer) -> None:
    whole = SimpleTokenizer(context_length=CONTEXT_LENGTH)
    for description in every_description():
        for variant in range(2):
            sentence = description.sentence(variant=variant)
            ids = tokenizer.encode(sentence)
            assert len(ids) == len(whole.encode(sentence))
            assert len(ids) + 2 <= CONTEXT_LENGTH
            assert tokenizer.decode(ids).strip() == sentence


def test_any_other_text_still_has_tokens(tokenizer: SimpleTokenizer) -> None:
    ids = tokenizer("Zwölf Boxkämpfer, 12!")[0]
    assert ids.max() == tokenizer.eot_token_id
    assert tokenizer.vocab_size == CONFIG["model_cfg"]["text_cfg"]["vocab_size"]


def test_it_tells_colours_apart_on_fresh_frames(model: CLIP, tokenizer: SimpleTokenizer) -> None:
    frames, colours = [], []
    for index in range(60):
        scene = sample_scene(scene_generator("clip-probe", 99, index))
        paint = Painter(scene)
        for second in range(0, scene.duration_seconds, 6):
            seen = {sighting.actor.colour for sighting in scene.sightings(second + 0.5)}
            if len(seen) == 1:
                frames.append(paint(second + 0.5))
                colours.append(COLOURS.index(seen.pop()))
    pixels = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(CONFIG["preprocess_cfg"][k]).view(3, 1, 1) for k in ("mean", "std"))
    sentences = [Description(colour).sentence() for colour in COLOURS]
    with torch.inference_mode():
        image = F.normalize(model.encode_image((pixels - mean) / std), dim=-1)
        text = F.normalize(model.encode_text(tokenizer(sentences)), dim=-1)
    named = (image @ text.T).argmax(dim=-1)
    assert len(colours) >= 50
    assert (named == torch.tensor(colours)).float().mean() > 0.6  # chance is 1 in 6
