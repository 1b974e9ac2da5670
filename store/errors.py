"""The error tree of r2t.

Every error a user can cause derives from `R2TError`, and each is also the builtin that code which
knows nothing of r2t would expect. A message says what was given, what is legal and what to do.
"""


def in_one_line(error: Exception, most_characters: int = 300) -> str:
    """Return what an error says, which may be many lines, as one that is not too long."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= most_characters else f"{words[:most_characters]} …"


_GPU_FAULTS = (
    "CUDA error",
    "CUDA driver",
    "cuDNN error",
    "CUDNN_",
    "CUBLAS_",
    "cuBLAS",
    "NCCL error",
)


def is_gpu_fault(error: Exception) -> bool:
    """Whether an error is a GPU's or its driver's own, whatever it was computing.

    Want of memory is none.
    """
    return isinstance(error, RuntimeError) and any(name in str(error) for name in _GPU_FAULTS)


class R2TError(Exception):
    """Base of all errors that r2t raises on purpose."""


class ConfigError(R2TError, ValueError):
    """A setting is impossible or does not fit the others."""


class AnnotationError(R2TError, ValueError):
    """An annotation or prediction file does not say what it should."""


class VideoError(R2TError, OSError):
    """A video is missing, damaged, or holds no decodable pictures."""


class StoreError(R2TError, OSError):
    """A feature store cannot be opened, read or written."""


class ServerError(StoreError):
    """A server does not give what it was asked for; what it holds may be sound."""


class NoAnswerError(ServerError):
    """A server cannot be reached, breaks off, or has too much to do, however often it is asked."""


class NotListedError(ServerError):
    """A server serves files but lists no folders, so that only a manifest tells what is there."""


class FeatureNotFoundError(StoreError, KeyError):
    """The store holds no features of this video or query."""

    __str__ = OSError.__str__  # KeyError would print the message's repr


class SpecMismatchError(StoreError, ValueError):
    """Two stores, or a store and a model, were made with different settings."""


class CorruptFeatureError(StoreError, ValueError):
    """Stored bytes are missing, truncated or not what their digest says."""


class AnnotationWarning(UserWarning):
    """Annotations were usable only after a change, which the message counts."""


class FeatureWarning(UserWarning):
    """Features differ slightly from those that a model was trained on, as the message says."""


class VideoWarning(UserWarning):
    """Videos were passed over, or one has odd times; the message names them."""


class ServerWarning(UserWarning):
    """A server answers late, or has others answer, which the message names."""


class ReadingWarning(UserWarning):
    """Features are read less far ahead than was asked for, which the message explains."""


class RunWarning(UserWarning):
    """A training run's folder lacks something, such as a lock or a line of its record."""
