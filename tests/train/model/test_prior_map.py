"""The model with a prior, beside the one without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from r2t.store.errors import ConfigError
from r2t.train.data.batch import Batch, Sample, collate
from r2t.train.model.config import R2Config
from r2t.train.model.losses import LossConfig, compute_losses
from r2t.train.model.model import Predictions, R2Model

SHAPES = ((11, 4), (7, 6), (16, 3))


@pytest.fixture
def batch(make_sample: Callable[..., Sample]) -> Batch:
    plain = collate([make_sample(*shape) for shape in SHAPES])
    prior = torch.randn(3, 16, 2) * plain.frame_mask[..., None]
    return replace(plain, prior=prior)


def build(config: R2Config) -> R2Model:
    torch.manual_seed(3)
    return R2Model(config)


def outputs(predictions: Predictions) -> dict[str, Tensor]:
    assert predictions.offsets is not None
    return {
        "logits": predictions.class_logits[predictions.point_mask],
        "offsets": predictions.offsets[predictions.point_mask],
        "saliency": predictions.saliency[predictions.frame_mask],
    }


def test_without_it_nothing_changes(tiny_config: R2Config, batch: Batch) -> None:
    plain, with_prior = build(tiny_config), build(replace(tiny_config, prior=True))
    weights = with_prior.state_dict()
    assert set(weights) - set(plain.state_dict()) == {
        "prior_map.linear.weight",
        "prior_map.linear.bias",
    }
    for name, tensor in plain.state_dict().items():  # the same draws, in the same order
        assert torch.equal(tensor, weights[name])
    without = outputs(plain(replace(batch, prior=None)))
    assert all(map(torch.equal, without.values(), outputs(plain(batch)).values()))
    with torch.no_grad():
        for parameter in with_prior.prior_map.parameters():  # type: ignore[union-attr]
            parameter.zero_()
    silent = outputs(with_prior(batch))
    assert all(map(torch.equal, without.values(), silent.values()))


def test_every_output_follows_it_and_learns_from_it(tiny_config: R2Config, batch: Batch) -> None:
    model = build(replace(tiny_config, prior=True))
    assert batch.prior is not None
    before = outputs(model(batch))
    after = outputs(model(replace(batch, prior=batch.prior + 1)))
    assert not any(map(torch.equal, before.values(), after.values()))
    assert batch.targets is not None
    compute_losses(model(batch), batch.targets, LossConfig()).total.backward()
    for parameter in model.prior_map.parameters():  # type: ignore[union-attr]
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0


def test_garbage_in_the_padding_reaches_no_output(tiny_config: R2Config, batch: Batch) -> None:
    model = build(replace(tiny_config, prior=True))
    assert batch.prior is not None
    expected = outputs(model(batch))
    dirty = torch.where(batch.frame_mask[..., None], batch.prior, torch.tensor(1e4))
    found = outputs(model(replace(batch, prior=dirty)))
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-6)


def test_a_prepared_video_is_answered_as_in_a_batch(tiny_config: R2Config, batch: Batch) -> None:
    model = build(replace(tiny_config, prior=True)).eval()
    assert batch.prior is not None
    with torch.inference_mode():
        together = model(batch)
        for row, (frames, words) in enumerate(SHAPES):
            prepared = model.prepare(batch.videos[row][:, :frames].float())
            query = batch.query[row : row + 1, :, :words]
            refined = model.refine(prepared, query, torch.tensor([words]))
            alone = model.read(refined, batch.prior[row : row + 1, :frames])
            torch.testing.assert_close(
                alone.saliency[0], together.saliency[row, :frames], rtol=0, atol=1e-5
            )


def test_a_model_that_takes_it_asks_for_it(tiny_config: R2Config, batch: Batch) -> None:
    model = build(replace(tiny_config, prior=True))
    with pytest.raises(ConfigError, match="given none: give features with embeddings"):
        model(replace(batch, prior=None))
