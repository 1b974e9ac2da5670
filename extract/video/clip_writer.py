"""Encode a clip: pictures and sound at given times, pictures upright and of even sides."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.frame import PictureType

from r2t.extract.video.container import Orientation

_CLOCK = Fraction(1, 90_000)
_QUALITY = {"crf": "20", "preset": "veryfast"}


class ClipWriter:
    """Writes one clip into an open container; the first picture gives its size."""

    def __init__(self, target: Any, picture: Any, sound: Any) -> None:
        self._target = target
        self._picture: Any = None
        self._rate = picture.average_rate or 25
        self._sound: Any = None
        self.num_pictures = 0
        self._last = {"picture": -1, "sound": -1}
        self._early: list[tuple[Any, float]] = []  # sound before the first picture gave its size
        if sound is not None:
            self._sound = target.add_stream("aac", rate=sound.rate)
            self._sound.layout = "mono" if sound.channels == 1 else "stereo"
            self._resampler = av.AudioResampler("fltp", self._sound.layout, sound.rate)

    def add(self, frame: av.VideoFrame | av.AudioFrame, seconds: float) -> None:
        """Encode a picture or sound at a time of the clip."""
        if isinstance(frame, av.VideoFrame):
            self._add_picture(frame, seconds)
        else:
            self._add_sound(frame, seconds)

    def _add_picture(self, frame: av.VideoFrame, seconds: float) -> None:
        upright = _upright(frame)
        if self._picture is None:
            self._picture = self._target.add_stream("libx264", rate=self._rate, options=_QUALITY)
            self._picture.width = upright.width // 2 * 2
            self._picture.height = upright.height // 2 * 2
            self._picture.pix_fmt = "yuv420p"
            self._picture.codec_context.time_base = _CLOCK
            for waiting, at in self._early:
                self._mux_sound(waiting, at)
        even = upright.reformat(self._picture.width, self._picture.height, "yuv420p")
        even.pts = self._next("picture", round(seconds / _CLOCK))
        even.time_base = _CLOCK
        even.pict_type = PictureType.NONE  # the encoder chooses its own key frames
        self._target.mux(self._picture.encode(even))
        self.num_pictures += 1

    def _add_sound(self, frame: av.AudioFrame, seconds: float) -> None:
        if self._picture is None:
            self._early.append((frame, seconds))
        else:
            self._mux_sound(frame, seconds)

    def _mux_sound(self, frame: av.AudioFrame, seconds: float) -> None:
        frame.pts = None
        for part in self._resampler.resample(frame):
            part.pts = self._next("sound", round(seconds * part.sample_rate))
            part.time_base = Fraction(1, part.sample_rate)
            self._last["sound"] += part.samples - 1
            self._target.mux(self._sound.encode(part))

    def _next(self, stream: str, wanted: int) -> int:
        """Return a time in ticks after the last one, as containers need it."""
        self._last[stream] = max(wanted, self._last[stream] + 1)
        return self._last[stream]

    def close(self) -> None:
        """Write what the encoders still hold."""
        for stream in (self._picture, self._sound):
            if stream is not None:
                self._target.mux(stream.encode())


def _upright(frame: av.VideoFrame) -> av.VideoFrame:
    orientation = Orientation.of(frame)
    if orientation == Orientation():
        return frame
    shown = np.ascontiguousarray(orientation.apply(frame.to_ndarray(format="rgb24")))
    return av.VideoFrame.from_ndarray(shown, format="rgb24")
