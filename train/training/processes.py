"""Several processes that train one model: each computes a part of every batch.

What the losses need of the parts is gathered, and every process computes the loss of the whole
batch, contrasts and denominators included: it is the loss that one process would have, and so is
the sum of the processes' gradients. (The official code takes losses of the parts and averages
gradients, which makes its contrasts smaller with every GPU.) The model is small: gradients travel
once, after the backward pass, in one piece.

Control messages go through gloo, on the host, so that they never wait for a GPU. Nothing is ever
pickled.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from r2t.store.errors import ConfigError
from r2t.train.model import Predictions


@dataclass(frozen=True)
class Processes:
    """This process among those of the run; by default it is alone."""

    rank: int = 0
    size: int = 1
    on_this_machine: int = 1
    control: dist.ProcessGroup | None = None

    @property
    def leads(self) -> bool:
        """Whether this process writes the run's files and speaks for it."""
        return self.rank == 0

    def agree(self, wish: int) -> int:
        """Return the greatest wish of all processes."""
        if self.size == 1:
            return wish
        wishes = torch.tensor(wish)
        dist.all_reduce(wishes, dist.ReduceOp.MAX, group=self.control)
        return int(wishes)

    def wait(self) -> None:
        """Wait until every process has come here."""
        self.agree(0)

    def gather_bytes(self, payload: bytes) -> list[bytes]:
        """Return what each process gives, to all of them."""
        if self.size == 1:
            return [payload]
        length = self.agree(len(payload) + 8)
        padded = len(payload).to_bytes(8, "little") + payload
        mine = torch.frombuffer(bytearray(padded.ljust(length, b"\0")), dtype=torch.uint8)
        parts = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(parts, mine, group=self.control)
        found = [part.numpy().tobytes() for part in parts]
        return [part[8 : 8 + int.from_bytes(part[:8], "little")] for part in found]

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Give every process the sum of all processes' gradients."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        totals = flat.split([gradient.numel() for gradient in gradients])
        for gradient, total in zip(gradients, totals, strict=True):
            gradient.copy_(total.view_as(gradient))

    def gather_rows(
        self, rows: Float[Tensor, "own size"], counts: tuple[int, ...]
    ) -> Float[Tensor, "batch size"]:
        """Concatenate rows in order of rank; gradients flow into this process's own alone."""
        padded = rows.new_zeros(max(counts), rows.shape[1])
        padded[: len(rows)] = rows.detach()
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        parts = [part[:count] for part, count in zip(parts, counts, strict=True)]
        parts[self.rank] = rows
        return torch.cat(parts)

    def gather_predictions(self, own: Predictions, counts: tuple[int, ...]) -> Predictions:
        """Return the predictions of the whole batch, of which `counts[rank]` are each one's."""
        fields = {
            "class_logits": own.class_logits,
            "saliency": own.saliency,
            "point_mask": own.point_mask.float(),
            "frame_mask": own.frame_mask.float(),
            "layer_frames": own.layer_frames.transpose(0, 1),
            "layer_queries": own.layer_queries.transpose(0, 1),
        }
        if own.offsets is not None:
            fields["offsets"] = own.offsets
        counted = [field[: counts[self.rank]].flatten(1) for field in fields.values()]
        rows = self.gather_rows(torch.cat(counted, dim=1), counts)
        columns = rows.split([field.shape[1:].numel() for field in fields.values()], dim=1)
        whole = {
            name: column.unflatten(1, field.shape[1:])
            for (name, field), column in zip(fields.items(), columns, strict=True)
        }
        return replace(
            own,
            class_logits=whole["class_logits"],
            offsets=whole.get("offsets"),
            saliency=whole["saliency"],
            point_mask=whole["point_mask"] > 0,
            frame_mask=whole["frame_mask"] > 0,
            layer_frames=whole["layer_frames"].transpose(0, 1),
            layer_queries=whole["layer_queries"].transpose(0, 1),
        )


ALONE = Processes()


def launched() -> bool:
    """Return whether torchrun, or a launcher like it, has started several processes."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def joined(device: str) -> Generator[tuple[Processes, str]]:
    """Join the processes that torchrun has started; yield them and the device of this one.

    `device` is "cpu", or "auto" or "cuda" for one GPU each, whether a process sees all GPUs of its
    machine or only its own.
    """
    if not launched():
        yield ALONE, device
        return
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise ConfigError(
            f"device {device!r}: several processes train on cpu, or on cuda with a GPU each"
        )
    if device == "cuda":
        number = _own_gpu(local_rank, torch.cuda.device_count())
        device = f"cuda:{number}"
        torch.cuda.set_device(number)
    dist.init_process_group("nccl" if device != "cpu" else "gloo")
    try:
        control = dist.new_group(backend="gloo")
        assert isinstance(control, dist.ProcessGroup)
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        processes = Processes(dist.get_rank(), dist.get_world_size(), here, control)
        if device != "cpu":
            _require_distinct(processes.gather_bytes(_identity(device)))
        yield processes, device
    finally:
        dist.destroy_process_group()


def _own_gpu(local_rank: int, num_visible: int) -> int:
    """Return the number, among those visible here, of a process's GPU."""
    if local_rank < num_visible:
        return local_rank
    if num_visible == 1:  # of a launcher that shows each process its own
        return 0
    raise ConfigError(
        f"process {local_rank} of this machine has no GPU, as there are {num_visible}: start as "
        "many processes as GPUs"
    )


def _identity(device: str) -> bytes:
    """Return what tells a GPU from all others."""
    found = torch.cuda.get_device_properties(device)
    return f"{socket.gethostname()} {found.uuid}".encode()


def _require_distinct(identities: Sequence[bytes]) -> None:
    """Raise `ConfigError` where two processes have the same GPU, given by their order."""
    first: dict[bytes, int] = {}
    for rank, identity in enumerate(identities):
        if first.setdefault(identity, rank) != rank:
            raise ConfigError(
                f"processes {first[identity]} and {rank} have the same GPU: start as many "
                "processes as GPUs, and see that the launcher sets LOCAL_RANK or shows each its own"
            )
