"""Tiles, whole batches and prepared videos against the reference look."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from r2t.train.data.batch import Batch, Sample, collate
from r2t.train.model import whole_look
from r2t.train.model.ablated_block import AblatedBlock
from r2t.train.model.config import R2Config
from r2t.train.model.looks import MakeLook, choose_look
from r2t.train.model.losses import LossConfig, compute_losses
from r2t.train.model.model import Predictions, R2Model
from r2t.train.model.padding import Extents
from r2t.train.model.r2_block import BlockOutput, R2Block
from r2t.train.model.reference_look import ReferenceLook
from r2t.train.model.tiled import spatial_pooling, tile_lanes, tile_pooling
from r2t.train.model.tiled.dropout_bits import as_numbers_, draw_kept, keep_, spread
from r2t.train.model.tiled.spatial_pooling import PoolPatches, maps_first
from r2t.train.model.tiled.tile_pooling import Setting
from r2t.train.model.tiled.video_tiles import Tile, VideoTokens, place_tiles, plan_tiles
from r2t.train.model.tiled_look import TiledLook
from r2t.train.model.whole_look import WholeLook

TOLERANCE = 1e-5  # of a tensor's maximum
SHAPES = ((1, 3), (20, 5), (9, 12), (3, 4), (17, 9))


@pytest.fixture
def pair(tiny_config: R2Config) -> Callable[..., tuple[R2Model, R2Model]]:
    """Build a model with every gate open, and its twin that looks as the reference does."""

    def build(make_look: MakeLook = choose_look, **changes: Any) -> tuple[R2Model, R2Model]:
        torch.manual_seed(0)
        config = replace(tiny_config, **changes)
        model = R2Model(config, make_look).train()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
        reference = R2Model(config, ReferenceLook).train()
        reference.load_state_dict(model.state_dict())
        return model, reference

    return build


def outputs(predictions: Predictions) -> dict[str, Tensor]:
    frames, points = predictions.frame_mask, predictions.point_mask
    named = {
        "logits": predictions.class_logits[points],
        "saliency": predictions.saliency[frames],
        "layer_frames": predictions.layer_frames[:, frames],
        "layer_queries": predictions.layer_queries,
    }
    if predictions.offsets is not None:
        named["offsets"] = predictions.offsets[points]
    return named


def gradients(model: R2Model, batch: Batch) -> dict[str, Tensor]:
    """Return outputs, losses and gradients, but for those that are zero but for rounding."""
    predictions = model(batch)
    assert batch.targets is not None
    losses = compute_losses(predictions, batch.targets, LossConfig())
    model.zero_grad()
    losses.total.backward()
    named = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    named = {name: grad for name, grad in named.items() if not name.endswith("key.bias")}
    assert len(named) > 70
    return {**outputs(predictions), **losses.terms(), **named}


def assert_same(ours: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert ours.keys() == expected.keys()
    for name, tensor in expected.items():
        tolerance = TOLERANCE * max(tensor.abs().max().item(), 1e-4)
        torch.testing.assert_close(
            ours[name], tensor, rtol=0, atol=tolerance, msg=lambda text, n=name: f"{n}: {text}"
        )


def sharing(batch: Batch, owners: Sequence[int]) -> Batch:
    """Let queries share videos: query b asks about the video of sample `owners[b]`."""
    videos = list(dict.fromkeys(owners))
    targets = batch.targets
    assert targets is not None
    return replace(
        batch,
        videos=batch.videos[videos],
        video_of_query=torch.tensor([videos.index(owner) for owner in owners]),
        num_frames=batch.num_frames[list(owners)],
        targets=targets.map(lambda tensor: tensor[list(owners)]),
    )


def eight_bit(batch: Batch) -> Batch:
    codes = (20 * batch.videos).clamp(-128, 127).to(torch.int8)
    return replace(batch, videos=codes, affine=torch.rand(len(codes), 2, 4, 48) + 0.1)


@pytest.mark.parametrize("padding", ["independent", "official"])
@pytest.mark.parametrize("frames_in_tile", [1, 4, 2_000])
@pytest.mark.parametrize("mapped_first", [False, True])
def test_every_output_and_gradient_is_the_reference(
    padding: str,
    frames_in_tile: int,
    mapped_first: bool,
    pair: Callable[..., tuple[R2Model, R2Model]],
    make_sample: Callable[..., Sample],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spatial_pooling, "maps_first", lambda words, patches: mapped_first)
    model, plain = pair(partial(TiledLook, frames_in_tile=frames_in_tile), padding=padding)
    batch = collate([make_sample(*shape) for shape in SHAPES])
    for asked in (batch, sharing(batch, (1, 1, 2, 1, 2))):
        assert_same(gradients(model, asked), gradients(plain, asked))


@pytest.mark.parametrize("padding", ["independent", "official"])
@pytest.mark.parametrize("mapped_first", [False, True])
def test_the_whole_look_is_the_reference(
    padding: str,
    mapped_first: bool,
    pair: Callable[..., tuple[R2Model, R2Model]],
    make_sample: Callable[..., Sample],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(whole_look, "maps_first", lambda words, patches: mapped_first)
    model, plain = pair(WholeLook, padding=padding)
    batch = collate([make_sample(*shape) for shape in SHAPES])
    shared = sharing(batch, (1, 1, 2, 1, 2))
    for asked in (batch, shared, eight_bit(shared)):
        assert_same(gradients(model, asked), gradients(plain, asked))
    model.eval()
    plain.eval()
    with torch.inference_mode():
        assert_same(outputs(model(shared)), outputs(plain(shared)))


@pytest.mark.parametrize("make_look", [choose_look, WholeLook])
def test_eight_bit_codes_and_highlight_models(
    make_look: MakeLook,
    pair: Callable[..., tuple[R2Model, R2Model]],
    make_sample: Callable[..., Sample],
) -> None:
    model, plain = pair(make_look, strides=(1,), temporal_features=False, boundary_head=False)
    batch = eight_bit(collate([make_sample(*shape) for shape in SHAPES]))
    with torch.inference_mode():
        assert_same(outputs(model.eval()(batch)), outputs(plain.eval()(batch)))


@pytest.mark.parametrize(
    "switches",
    [
        {"direction": "forward"},
        {"direction": "parallel"},
        {"pooling": "mean"},
        {"pooling": "cls"},
        {"shared_weights": False},
        {"layer_weighting": True},
        {"layer_weighting": True, "direction": "parallel", "pooling": "cls"},
        {"shared_weights": False, "direction": "forward", "pooling": "mean"},
    ],
    ids=str,
)
@pytest.mark.parametrize("make_look", [choose_look, WholeLook])
def test_ablations_are_the_reference_and_use_all_their_parameters(
    make_look: MakeLook,
    switches: dict[str, Any],
    pair: Callable[..., tuple[R2Model, R2Model]],
    make_sample: Callable[..., Sample],
) -> None:
    model, plain = pair(make_look, **switches)
    batch = collate([make_sample(*shape) for shape in SHAPES])
    batch = sharing(batch, (1, 1, 2, 1, 2))
    ours = gradients(model, batch)
    assert_same(ours, gradients(plain, batch))
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    default, _ = pair()
    assert not torch.equal(outputs(default(batch))["logits"], ours["logits"])
    model.eval()
    with torch.inference_mode():
        together = model(batch)
        for row, owner in enumerate(batch.video_of_query.tolist()):
            frames, words = int(batch.num_frames[row]), batch.num_words[row : row + 1]
            refined = model.refine(
                model.prepare(batch.videos[owner][:, :frames].float()),
                batch.query[row : row + 1, :, : int(words)],
                words,
            )
            alone = model.read(refined)
            torch.testing.assert_close(
                alone.saliency[0], together.saliency[row, :frames], rtol=0, atol=1e-5
            )


def test_without_an_ablation_both_blocks_are_the_same(
    tiny_config: R2Config, make_sample: Callable[..., Sample]
) -> None:
    batch = collate([make_sample(*shape) for shape in SHAPES])
    extents = Extents.independent(batch)
    found: list[tuple[BlockOutput, list[Tensor]]] = []
    for kind in (R2Block, AblatedBlock):
        torch.manual_seed(0)
        block = kind(replace(tiny_config, dropout=0.5, drop_path=0.1)).train()
        with torch.no_grad():
            for gate in (block.pooled_gate, block.recurrent_gate):
                assert gate is not None
                gate.copy_(torch.randn_like(gate))
        output = block(choose_look(tiny_config, batch, extents), batch.query, extents)
        (output.frames.sum() + output.words.sum() + output.layer_frames.square().sum()).backward()
        found.append((output, [p.grad for p in block.parameters() if p.grad is not None]))
    (method, gradients), (ablated, others) = found
    for name in ("frames", "words", "layer_frames", "layer_words"):
        assert torch.equal(getattr(method, name), getattr(ablated, name))
    assert len(gradients) == len(others) > 40
    assert all(map(torch.equal, gradients, others))


class _Replayed(nn.Module):
    """Dropout with masks drawn before."""

    def __init__(self, masks: list[Tensor], rate: float) -> None:
        super().__init__()
        self.masks, self.rate = masks, rate

    def forward(self, values: Tensor) -> Tensor:
        kept = as_numbers_(spread(self.masks.pop(0), values), values.dtype)
        return values * kept / (1 - self.rate)


def test_dropout_drops_the_same_forward_and_backward(
    pair: Callable[..., tuple[R2Model, R2Model]],
    make_sample: Callable[..., Sample],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, plain = pair(dropout=0.35)
    drawn: list[Tensor] = []

    def draw(*arguments: Any) -> Tensor:
        drawn.append(draw_kept(*arguments))
        return drawn[-1]

    monkeypatch.setattr(tile_pooling, "draw_kept", draw)
    monkeypatch.setattr(tile_lanes, "lanes_for", lambda parts: (1, 1))  # draws tile after tile
    model.block.query_map.eval()
    plain.block.query_map.eval()
    batch = collate([make_sample(11, 7)])
    ours = gradients(model, batch)
    assert len(drawn) == 8  # two of each of four layers
    plain.block.video_map.dropout = _Replayed(drawn, 0.35)  # type: ignore[assignment]
    assert_same(ours, gradients(plain, batch))


class _Bernoulli(TorchFunctionMode):
    """Remembers what dropout of the whole look keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.masks: list[Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if func is Tensor.bernoulli_:
            self.masks.append(found.clone())
        return found


class _Kept(nn.Module):
    """Dropout of the reference with the masks of the whole look: of tokens, times and patches."""

    def __init__(self, masks: list[Tensor], rate: float) -> None:
        super().__init__()
        self.masks, self.rate = masks, rate

    def forward(self, values: Tensor) -> Tensor:
        kept = self.masks.pop(0)
        if kept.shape[-1] < values.shape[-1]:
            kept = torch.cat([kept, self.masks.pop(0)], dim=-1)
        return values * kept.view(values.shape) / (1 - self.rate)


def test_the_whole_look_drops_as_the_reference_and_anew_for_each_query(
    pair: Callable[..., tuple[R2Model, R2Model]], make_sample: Callable[..., Sample]
) -> None:
    model, plain = pair(WholeLook, dropout=0.35)
    model.block.query_map.eval()
    plain.block.query_map.eval()
    batch = sharing(collate([make_sample(*shape) for shape in SHAPES]), (1, 1, 2, 1, 2))
    with _Bernoulli() as drawn:
        ours = gradients(model, batch)
    assert len(drawn.masks) == 12  # three of each of four layers
    tokens = drawn.masks[0].unflatten(0, (len(batch), -1))
    assert tokens.mean().item() == pytest.approx(0.65, abs=0.01)
    assert not torch.equal(tokens[0], tokens[1])  # of one video
    plain.block.video_map.dropout = _Kept(drawn.masks, 0.35)  # type: ignore[assignment]
    assert_same(ours, gradients(plain, batch))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_number_of_lanes_changes_no_bit(
    pair: Callable[..., tuple[R2Model, R2Model]],
    make_sample: Callable[..., Sample],
    monkeypatch: pytest.MonkeyPatch,
    dropout: float,
) -> None:
    model, _ = pair(partial(TiledLook, frames_in_tile=4), dropout=dropout)
    batch = collate([make_sample(*shape) for shape in SHAPES])
    parts: list[int] = []
    found: list[dict[str, Tensor]] = []
    for num_lanes in (1, 2, 5):

        def lanes_for(num_parts: int, num_lanes: int = num_lanes) -> tuple[int, int]:
            parts.append(num_parts)
            return num_lanes, 1

        monkeypatch.setattr(tile_lanes, "lanes_for", lanes_for)
        torch.manual_seed(7)
        found.append(gradients(model, batch))
    assert parts == [tile_lanes.MOST_PARTS] * 6  # forward and backward
    for name, tensor in found[0].items():
        assert all(torch.equal(tensor, other[name]) for other in found[1:]), name


@pytest.mark.parametrize("make_look", [choose_look, WholeLook])
def test_evaluation_draws_nothing(
    make_look: MakeLook,
    pair: Callable[..., tuple[R2Model, R2Model]],
    make_sample: Callable[..., Sample],
) -> None:
    model, _ = pair(make_look, dropout=0.5)
    batch = collate([make_sample(9, 4)])
    before = torch.get_rng_state()
    model.eval()(batch)
    assert torch.equal(torch.get_rng_state(), before)
    model.train()(batch)
    assert not torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("rate", [0.5, 0.35, 0.9, 1e-7])
def test_dropout_keeps_at_its_rate_and_independently(rate: float) -> None:
    torch.manual_seed(0)
    kept = draw_kept(200_000, rate, torch.default_generator)
    values = torch.full((200_000,), 3.0)
    keep_(values, spread(kept, values))
    assert set(values.unique().tolist()) <= {0, 3}
    share = (values / 3).double()
    assert share.mean().item() == pytest.approx(1 - rate, abs=0.005)
    for distance in (1, 32, 64, 6250):  # neighbours in a word, words, and places in a word
        both = (share[distance:] * share[:-distance]).mean().item()
        assert both == pytest.approx((1 - rate) ** 2, abs=0.005)
    assert keep_(values, None) is values


def test_gradients_of_the_function_itself() -> None:
    """Finite differences in float64, dropout drawn again from the same seed."""
    torch.manual_seed(0)
    tokens = torch.randn(2, 2, 3, 4, 5, dtype=torch.float64)
    times = torch.rand(2, 3, 2, dtype=torch.float64)
    competing = torch.tensor([[True, True], [True, False], [True, True]])
    tiles = [
        Tile([0], slice(0, 2), [[0, 2]], 2),
        Tile([0], slice(2, 3), [[0, 2]], 2),
        Tile([1], slice(0, 3), [[1]], 2),
    ]
    shapes = [(7,), (7,), (6, 7), (6,), (6,), (6,), (6, 6), (6,)]
    inputs = [torch.randn(2, 3, 2, 6), torch.randn(2, 3, 2, 6), *map(torch.randn, shapes)]
    inputs = [tensor.double().requires_grad_() for tensor in inputs]
    placed = place_tiles(tiles, tokens.device)
    for dropout, mapped_first in itertools.product((0.0, 0.3), (False, True)):
        setting = Setting(
            VideoTokens(tokens, None, times),
            placed,
            competing,
            dropout,
            torch.float64,
            keep=True,
            mapped_first=mapped_first,
        )

        def pooled(*tensors: Tensor, setting: Setting = setting) -> Any:
            torch.manual_seed(1)
            return PoolPatches.apply(setting, *tensors)

        assert torch.autograd.gradcheck(pooled, inputs, fast_mode=True)


def test_a_module_may_be_used_twice_before_its_backward(
    pair: Callable[..., tuple[R2Model, R2Model]], make_sample: Callable[..., Sample]
) -> None:
    model, _ = pair(dropout=0.5)
    batches = [collate([make_sample(5, 3)]), collate([make_sample(8, 4)])]

    def accumulated(*, together: bool) -> list[Tensor]:
        torch.manual_seed(3)
        model.zero_grad()
        sums = [model(batch).saliency.sum() for batch in batches] if together else None
        if sums is not None:
            torch.stack(sums).sum().backward()
        else:
            for batch in batches:
                model(batch).saliency.sum().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    for ours, expected in zip(accumulated(together=True), accumulated(together=False), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make_look", [choose_look, WholeLook])
@pytest.mark.parametrize("mapped_first", [False, True])
def test_mixed_precision_learns_the_same(
    make_look: MakeLook,
    pair: Callable[..., tuple[R2Model, R2Model]],
    make_sample: Callable[..., Sample],
    monkeypatch: pytest.MonkeyPatch,
    mapped_first: bool,
) -> None:
    for module in (spatial_pooling, whole_look):
        monkeypatch.setattr(module, "maps_first", lambda words, patches: mapped_first)
    model, _ = pair(make_look)
    batch = collate([make_sample(9, 12), make_sample(20, 5)])
    exact = gradients(model, batch)["block.video_map.input_linear.weight"].clone()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = gradients(model, batch)["block.video_map.input_linear.weight"]
    assert not torch.equal(exact, mixed)
    assert torch.cosine_similarity(exact.flatten(), mixed.flatten(), dim=0) > 0.99


def test_the_second_layer_meets_patches_where_they_are_fewer_than_words() -> None:
    assert not maps_first(num_words=50, num_patches=50)
    assert maps_first(num_words=51, num_patches=50)


class _Indexing(TorchFunctionMode):
    """Counts tensors made of lists, each of which a GPU waits for; an index may be such a list."""

    def __init__(self) -> None:
        super().__init__()
        self.num_lists = 0

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        self.num_lists += name in ("tensor", "as_tensor")
        if name in ("__getitem__", "__setitem__"):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            self.num_lists += sum(isinstance(part, list) for part in index)
        return func(*args, **(kwargs or {}))


def test_places_of_shared_videos_are_copied_to_the_device_once(
    pair: Callable[..., tuple[R2Model, R2Model]],
    make_sample: Callable[..., Sample],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tile_lanes, "lanes_for", lambda parts: (1, 1))  # modes are of a thread
    model, _ = pair(partial(TiledLook, frames_in_tile=4))
    batch = collate([make_sample(*shape) for shape in SHAPES])
    batch = sharing(batch, (1, 2, 1, 2, 4))
    with _Indexing() as seen:
        extents = Extents.independent(batch)
        look = model.make_look(model.config, batch, extents)
        output = model.block(look, batch.query, extents)
        output.frames.sum().backward()
    assert seen.num_lists == 1


def test_tiles_cover_real_frames_and_little_else() -> None:
    asked = [(0, [0]), (1, [1, 3]), (2, [2]), (3, [4])]
    frames, words = [70, 4, 3, 4, 2], [9, 5, 6, 5, 8]
    tiles = list(plan_tiles(asked, frames, words, 30))
    assert [(t.videos, t.frames.start, t.frames.stop) for t in tiles] == [
        ([0], 0, 30),
        ([0], 30, 60),
        ([0], 60, 70),
        ([2, 3], 0, 3),
        ([1], 0, 4),
    ]
    assert [t.num_words for t in tiles] == [9, 9, 9, 8, 5]
    assert tiles[4].queries == [[1, 3]]
