"""Where CLIP comes from: model names, model folders, weight files, and the cache of downloads.

A model is a name that open_clip knows or a folder in open_clip's own format
(`open_clip_config.json`, `open_clip_model.safetensors`, optionally `merges.txt.gz`).
Nothing is downloaded that a cache holds, and nothing at all when offline.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import logging
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import huggingface_hub
import open_clip
import torch
from huggingface_hub.errors import EntryNotFoundError
from open_clip.pretrained import download_pretrained_from_url
from open_clip.tokenizer import SimpleTokenizer
from torch import nn

from r2t.store.errors import ConfigError, in_one_line

DEMO_MODEL = "r2t-demo"
OPENAI = "openai"
NO_WEIGHTS = "none"
OWN_WEIGHTS = ("demo", "folder")  # labels of the weights that lie in a model's folder
CONFIG_FILE, WEIGHTS_FILE, MERGES_FILE = (
    "open_clip_config.json",
    "open_clip_model.safetensors",
    "merges.txt.gz",
)

_QUIET = threading.Lock()

Announce = Callable[[str, int | None], None]
"""Called with the source and its size in bytes, if known, before a download begins."""


@dataclass(frozen=True)
class ModelSource:
    """A model's name in the spec, what open_clip calls it, and its folder if it has one."""

    name: str
    open_clip_name: str
    folder: Path | None

    @property
    def location(self) -> str:
        """What loads the model again, whatever the working directory is."""
        if self.folder is None or self.name == DEMO_MODEL:
            return self.name
        return str(self.folder.resolve())

    def tokenizer(self) -> Any:
        """Build the tokenizer; a folder with its own merges overrides CLIP's vocabulary."""
        if self.folder is None or not (self.folder / MERGES_FILE).is_file():
            with quiet_open_clip():
                return open_clip.get_tokenizer(self.open_clip_name)
        context_length = self.config()["text_cfg"].get("context_length", 77)
        return SimpleTokenizer(str(self.folder / MERGES_FILE), context_length=context_length)

    def config(self) -> dict[str, Any]:
        """Return open_clip's description of both towers."""
        if self.folder is None:
            return open_clip.get_model_config(self.open_clip_name) or {}
        path = self.folder / CONFIG_FILE
        try:
            return json.loads(path.read_text(encoding="utf-8"))["model_cfg"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} is not an open_clip configuration: {error!r}") from error


@dataclass(frozen=True)
class WeightSource:
    """Which weights to load: a label to record, and what open_clip should know about them.

    `location` is a file, a Hugging Face repository ("org/name"), or a URL; None means random.
    """

    label: str
    location: Path | str | None
    file_names: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict[str, Any])


def find_model(name: str) -> ModelSource:
    """Resolve a model name, `r2t-demo`, or a model folder."""
    folder = Path(str(files("r2t.extract.demo") / "clip")) if name == DEMO_MODEL else Path(name)
    if name == DEMO_MODEL or folder.is_dir():
        if not (folder / CONFIG_FILE).is_file():
            raise ConfigError(f"model folder {folder} has no {CONFIG_FILE}")
        label = name if name == DEMO_MODEL else folder.resolve().name
        return ModelSource(label, f"local-dir:{folder}", folder)
    names = [*open_clip.list_models(), DEMO_MODEL]
    if name not in names:
        raise ConfigError(
            f"unknown model {name!r}{_did_you_mean(name, names)}; give a model name of open_clip, "
            f"{DEMO_MODEL}, or a folder with {CONFIG_FILE} and {WEIGHTS_FILE}"
        )
    return ModelSource(name, name, None)


def find_weights(model: ModelSource, pretrained: str | None) -> WeightSource:
    """Resolve `pretrained`: a tag, a file, "none", or None for the model's usual weights."""
    if pretrained == NO_WEIGHTS:
        return WeightSource(NO_WEIGHTS, None)
    if model.folder is not None and (pretrained is None or pretrained in OWN_WEIGHTS):
        label = OWN_WEIGHTS[0] if model.name == DEMO_MODEL else OWN_WEIGHTS[1]
        return WeightSource(label, _existing(model.folder / WEIGHTS_FILE))
    tag = pretrained or OPENAI
    settings = open_clip.get_pretrained_cfg(model.name, tag) if model.folder is None else {}
    if settings:
        return _tagged(tag, settings)
    if Path(tag).is_file() or Path(tag).suffix or "/" in tag:
        return WeightSource(tag, _existing(Path(tag)))
    tags = [] if model.folder else open_clip.list_pretrained_tags_by_model(model.name)
    raise ConfigError(
        f"{model.name} has no weights called {tag!r}{_did_you_mean(tag, tags)}; the choice is "
        f"{', '.join([*tags, NO_WEIGHTS])} or the path of a weight file"
    )


def cached_weights(source: WeightSource) -> Path | None:
    """Return the weight file if this machine has it; never asks the network."""
    if source.location is None or isinstance(source.location, Path):
        return source.location
    return _cached(source.location, source.file_names)


def load_weights(model: Any, source: WeightSource, *, offline: bool, announce: Announce) -> None:
    """Load weights strictly, downloading them if no cache holds them; random ones are left.

    Files ending in `.pt` are read as tensors alone, never as code.

    Raises:
        ConfigError: if they cannot be had, or are those of another model.
    """
    if source.location is None:
        return
    path = fetch(source, offline=offline, announce=announce)
    try:
        with quiet_open_clip():
            open_clip.load_checkpoint(model, str(path), strict=True, weights_only=True)
    except Exception as error:  # RuntimeError, UnpicklingError, SafetensorError, KeyError, …
        reason = in_one_line(error)
        if "TorchScript" in str(error):
            reason = "it is a TorchScript archive, which holds code; give a .safetensors file"
        raise ConfigError(
            f"cannot load the weights {source.label!r} from {path}: {reason}"
        ) from error


def fetch(source: WeightSource, *, offline: bool, announce: Announce) -> Path:
    """Return the weight file, downloading it only if no cache holds it.

    Raises:
        ConfigError: if it is neither here nor can be downloaded; the message says what to do.
    """
    location = source.location
    assert location is not None, "random weights have no file"
    present = cached_weights(source)
    if present is not None:
        return present
    assert isinstance(location, str), "a file of one's own is present"
    advice = (
        f"copy the weights from another machine and pass --pretrained PATH, fill the cache "
        f"{_cache_folder(location)}, or use --pretrained none for random weights"
    )
    if offline:
        raise ConfigError(
            f"offline, and the weights {source.label!r} from {location} are not cached: {advice}"
        )
    try:
        return _download(location, source.file_names, announce)
    except Exception as error:  # the hub's client raises its own, httpx's and the system's errors
        reason = in_one_line(error)
        raise ConfigError(
            f"cannot fetch the weights {source.label!r} from {location} ({reason}): {advice}"
        ) from error


def weights_digest(model: nn.Module) -> str:
    """Hash names, dtypes, shapes and little-endian bytes of all weights, in order of name."""
    digest = hashlib.sha256()
    state = model.state_dict()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


@contextmanager
def quiet_open_clip() -> Generator[None]:
    """Silence open_clip, which logs to the root logger that a model has no weights yet.

    What other threads log there, and what this one logs elsewhere, is passed on.
    """
    root, thread = logging.getLogger(), threading.get_ident()

    def by_others(record: logging.LogRecord) -> bool:
        return record.thread != thread

    with _QUIET:
        configured = bool(root.handlers)
        root.addFilter(by_others)
        try:
            yield
        finally:
            root.removeFilter(by_others)
            if not configured:  # `logging.warning` gives a root without handlers one of its own
                for handler in list(root.handlers):
                    if type(handler) is logging.StreamHandler:
                        root.removeHandler(handler)


def _tagged(tag: str, settings: dict[str, Any]) -> WeightSource:
    if repository := settings.get("hf_hub"):
        folder, _, name = repository.rpartition("/")
        names = [name] if name else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
        if name.endswith((".bin", ".pth")):
            names.insert(0, f"{name[:-4]}.safetensors")
        return WeightSource(tag, folder, tuple(names), settings)
    return WeightSource(tag, settings["url"], (), settings)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ConfigError(f"there is no weight file {path}")
    return path


def _cached(location: str, file_names: tuple[str, ...]) -> Path | None:
    if not file_names:
        path = _cache_folder(location) / Path(location).name
        return path if path.is_file() else None
    for name in file_names:
        path = huggingface_hub.try_to_load_from_cache(location, name)
        if isinstance(path, str):
            return Path(path)
    return None


def cache_folder() -> Path:
    """Return the folder of Hugging Face's cache, where most weights lie."""
    return _cache_folder("")


def _cache_folder(location: str) -> Path:
    if location.startswith("http"):
        return Path.home() / ".cache" / "clip"
    return Path(huggingface_hub.constants.HF_HUB_CACHE)


def _download(location: str, file_names: tuple[str, ...], announce: Announce) -> Path:
    if not file_names:
        announce(location, None)
        return Path(download_pretrained_from_url(location))
    for name in file_names[:-1]:
        try:
            return _download_from_hub(location, name, announce)
        except EntryNotFoundError:  # the repository holds another of the names
            continue
    return _download_from_hub(location, file_names[-1], announce)


def _download_from_hub(repository: str, name: str, announce: Announce) -> Path:
    url = huggingface_hub.hf_hub_url(repository, name)
    announce(url, huggingface_hub.get_hf_file_metadata(url).size)
    return Path(huggingface_hub.hf_hub_download(repository, name))


def _did_you_mean(given: str, legal: list[str]) -> str:
    close = difflib.get_close_matches(given, legal, n=4, cutoff=0.5)
    return f" (did you mean {' or '.join(close)}?)" if close else ""
