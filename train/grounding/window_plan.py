"""Which videos are asked in windows, and how long these are.

A window is as long as the longest video of the training, so the model sees nothing but what it
knows. The benchmarks ask every video whole, so that is how a run with a dataset's preset is scored,
in training and afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

from r2t.store.errors import ConfigError
from r2t.train.run import PRESETS, TrainConfig, TrainedOn, Windows

_UNKNOWN_WINDOW_FRAMES = 512  # for runs that do not say: 17 minutes at 0.5 fps
_MIN_WINDOW_FRAMES = 32


@dataclass(frozen=True)
class WindowPlan:
    """Windows of `num_frames`; None asks every video whole.

    So are videos of up to twice as many frames, and those of up to `whole_frames`.
    """

    num_frames: int | None
    whole_frames: int = 0

    def __post_init__(self) -> None:
        if self.num_frames is not None and self.num_frames < 2:
            raise ConfigError(f"windows of {self.num_frames} frames: they need at least 2")

    @classmethod
    def of_run(cls, trained_on: TrainedOn) -> WindowPlan:
        """Return the windows that fit a run: the longest video that it was trained on."""
        longest = trained_on.longest_num_frames or _UNKNOWN_WINDOW_FRAMES
        return cls(max(longest, _MIN_WINDOW_FRAMES), trained_on.longest_whole_num_frames or 1)

    @property
    def limit_frames(self) -> int | None:
        """The longest video that is asked as one; None if that is any."""
        return None if self.num_frames is None else max(2 * self.num_frames, self.whole_frames)

    def divides(self, num_frames: int) -> bool:
        """Return whether a video of so many frames is asked in windows."""
        return self.limit_frames is not None and num_frames > self.limit_frames

    def windows(self, num_frames: int) -> list[slice]:
        """Return the frames of each window, in order; neighbours share half of them or more."""
        if self.num_frames is None or not self.divides(num_frames):
            return [slice(0, num_frames)]
        step = self.num_frames // 2
        last = num_frames - self.num_frames
        count = -(-last // step)
        starts = [round(place * last / count) for place in range(count + 1)]
        return [slice(start, start + self.num_frames) for start in starts]


def asking_plan(
    config: TrainConfig, trained_on: TrainedOn, windows: Windows = "auto"
) -> WindowPlan:
    """Return how a run is asked about any video.

    "auto" is what the run's own settings say, and where they say "auto" as well, what fits it.
    """
    choice = config.windows if windows == "auto" else windows
    if choice == "auto":
        return WindowPlan.of_run(trained_on)
    return WindowPlan(None if choice == "off" else choice)


def scoring_plan(
    config: TrainConfig, trained_on: TrainedOn, windows: Windows = "auto"
) -> WindowPlan:
    """Return how a run is asked annotated queries, to be scored: in training and afterwards.

    It is `asking_plan`, but that "auto" is the protocol of a dataset for a run with its preset:
    every video whole.
    """
    if windows == config.windows == "auto" and config.preset in PRESETS:
        return WindowPlan(None)
    return asking_plan(config, trained_on, windows)
