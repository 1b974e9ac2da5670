"""A folder on this machine where fetched videos lie for as long as they are needed.

It is bounded, also where several processes share it. What a process fetched is removed when it
ends, or by the next process if it was killed. Videos are fetched rather than read where they lie,
because a store records the SHA-256 of the whole file: all of its bytes have to come anyway.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import threading
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from r2t.extract.fetch.config import FetchConfig
from r2t.extract.fetch.landing import Landing
from r2t.extract.fetch.remote_video import RemoteVideo, VideoLocation, without_secrets
from r2t.extract.fetch.room import Room, RoomClosedError
from r2t.extract.fetch.shared_disk import SharedDisk
from r2t.store.errors import NoAnswerError, ServerError, StoreError, VideoError
from r2t.store.files import explain
from r2t.store.sources import is_bucket, move_file
from r2t.store.work_folders import WorkFolder, make_own_folder

_MOST_NAME_BYTES = 150
_ADVICE = "give another (--scratch)"


@dataclass(frozen=True)
class FetchedVideo:
    """A video on this machine, or the reason why it is not here.

    Leaving its `with` block removes it, unless it was here before. `silence` is the reason, too, if
    the server said nothing about this very video: its others may fare no better.
    """

    path: Path
    reason: str | None = None
    silence: str | None = None
    stack: ExitStack = field(default_factory=ExitStack, repr=False)

    def name_place(self, message: str, place: VideoLocation) -> str:
        """Return a message about the file as one about where it came from."""
        return message if self.path is place else message.replace(str(self.path), str(place))

    def __enter__(self) -> FetchedVideo:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()


class Scratch:
    """Fetches videos into a bounded folder, which is made when the first one is fetched."""

    def __init__(self, config: FetchConfig) -> None:
        self._config = config
        self._stack = ExitStack()
        self._lock = threading.Lock()
        self._folder: tuple[Path, SharedDisk] | None = None
        self._room = Room(config.scratch_bytes)
        self._numbers = itertools.count()

    def __enter__(self) -> Scratch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what is being fetched, and remove the folder."""
        self._room.close()
        with self._lock:
            self._stack.close()

    def fetch(self, place: VideoLocation) -> FetchedVideo:
        """Return a video that is here, fetched if need be.

        Raises:
            StoreError: if the folder cannot be written.
            RoomClosedError: if this was closed meanwhile.
        """
        if isinstance(place, Path):
            return FetchedVideo(place)
        with ExitStack() as stack:
            path, disk = self._new_path(place.name, stack)
            try:
                landing = stack.enter_context(Landing(path, self._room, disk, self._config))
                if not move_file(place.url, landing, asked=place.asked):
                    return FetchedVideo(path, f"{place}: there is no such file")
                landing.finish()
            except VideoError as error:
                return FetchedVideo(path, f"{place}: {error}")
            except ServerError as error:
                reason = without_secrets(str(error), place.url)
                return FetchedVideo(path, reason, reason if _is_silence(place, error) else None)
            return FetchedVideo(path, stack=stack.pop_all())

    def _new_path(self, name: str, stack: ExitStack) -> tuple[Path, SharedDisk]:
        """Return a path that ends like the name, in a folder of its own, which `stack` removes."""
        try:
            with self._lock:
                if self._room.closed:  # nobody would remove the folder any more
                    raise RoomClosedError
                if self._folder is None:
                    self._folder = self._open_folder()
                work, disk = self._folder
            folder = work / str(next(self._numbers))
            folder.mkdir()
        except StoreError:
            raise
        except OSError as error:
            raise StoreError(
                f"cannot keep fetched videos: {explain(error)} (--scratch is where they go)"
            ) from error
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        return folder / os.fsdecode(os.fsencode(name)[-_MOST_NAME_BYTES:]), disk

    def _open_folder(self) -> tuple[Path, SharedDisk]:
        given = self._config.scratch
        folder = Path(given) if given else Path(tempfile.gettempdir())
        folder.mkdir(parents=True, exist_ok=True)
        root = folder.resolve() / f"r2t-videos-{os.getuid()}"
        work = WorkFolder(root)
        make_own_folder(work.path.parent, _ADVICE)  # first, as it removes what dead processes left
        path = self._stack.enter_context(work).path
        make_own_folder(path.parent, _ADVICE)
        with suppress(OSError):
            path.chmod(0o700)
        return path, SharedDisk(root)


def _is_silence(place: RemoteVideo, error: ServerError) -> bool:
    """Whether an error is no answer about this one video, but concerns its server.

    A bucket refuses one object (`PermissionError`); all else it says is of itself, or of the
    credentials.
    """
    if is_bucket(place.url):
        return not isinstance(error.__cause__, PermissionError)
    return isinstance(error, NoAnswerError)
