"""`r2t import-checkpoint`: use weights that the official code trained."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

import r2t.train.model
from r2t.cli.shared import Json, NumTokens, PresetOption, examples, handle_errors, print_json, say
from r2t.store import exchange
from r2t.store.errors import ConfigError
from r2t.store.schema import FeatureSpec
from r2t.store.wording import counted
from r2t.train import run

CLIP_DEPTH = 12  # of the ViT-B towers, the only ones that the official code can use


@examples(
    "r2t import-checkpoint r2_tuning_qvhighlights.pth runs/official",
)
def import_checkpoint(
    checkpoint: Annotated[Path, typer.Argument(help="A .pth file of the official code.")],
    out: Annotated[Path, typer.Argument(help="Folder to make: a run for eval and predict.")],
    preset: PresetOption = "qvhighlights",
    model: Annotated[
        str, typer.Option(help="CLIP model whose features it was trained on.")
    ] = "ViT-B-32-quickgelu",
    num_tokens: NumTokens = 50,
    json: Json = False,
) -> None:
    """Make a run folder from an official checkpoint."""
    with handle_errors():
        chosen = run.find_preset(preset)
        network = r2t.train.model.load_official(checkpoint)
        if chosen.highlights_only == network.config.boundary_head:
            raise ConfigError(
                f"{checkpoint} has {'a' if network.config.boundary_head else 'no'} boundary head, "
                f"unlike models of the preset {chosen.name}; give the --preset it was trained with"
            )
        config = chosen.train_config(recipe="official")
        sizes = replace(network.config, dropout=chosen.dropout, padding=config.model.padding)
        folder = run.RunFolder(out)
        folder.claim(
            replace(config, model=sizes),
            _trained_on(checkpoint, _spec(network, chosen, model, num_tokens)),
            resume=False,
        )
        folder.save_weights("best", network)
        if json:
            print_json({"run": str(out), "preset": chosen.name, "parameters": _count(network)})
        else:
            parameters = counted(_count(network), "parameter")
            say(f"imported: {out}, {parameters} of {checkpoint.name}")


def _spec(
    network: r2t.train.model.R2Model, preset: run.Preset, model: str, num_tokens: int
) -> FeatureSpec:
    config = network.config
    return exchange.official_spec(
        model=model,
        layers=range(CLIP_DEPTH - config.num_layers + 1, CLIP_DEPTH + 1),
        frame_rate=preset.frame_rate,
        num_tokens=num_tokens,
        vision_width=config.vision_width,
        text_width=config.text_width,
    )


def _trained_on(checkpoint: Path, spec: FeatureSpec) -> run.TrainedOn:
    with checkpoint.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return run.TrainedOn(
        identity=spec,
        provenance={"model": spec.model, "pretrained": "openai"},
        imported=run.ImportedWeights(checkpoint.name, digest),
    )


def _count(network: r2t.train.model.R2Model) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
