"""nda_index tells which training images a generated image is made of.

A name is imported when it is first used, so that whoever needs little does not wait for the rest.
"""

import importlib as _importlib
import typing as _typing

from nda_index.errors import (
    AnswerFormatError,
    ConfigError,
    CorruptIndexError,
    ImageDecodeError,
    IndexFormatError,
    LockedError,
    MismatchError,
    MissingDependencyError,
    NdaIndexError,
    NotAnIndexError,
    QueryError,
    ServiceError,
    ShardLostError,
    SourceError,
    StorageError,
    VersionError,
)
from nda_index.version import __version__

if _typing.TYPE_CHECKING:
    from nda_index import exact
    from nda_index.answer.attribution import Attribution, read_answer
    from nda_index.answer.denoised import Denoised
    from nda_index.copies.pull import pull_index
    from nda_index.copies.push import push_index
    from nda_index.copies.summary import CopySummary
    from nda_index.evaluate.tuning import Trial, Tuning, tune
    from nda_index.images import Latent, read_picture
    from nda_index.index import Index, build_index, open_index
    from nda_index.indexing.addition import add_images
    from nda_index.indexing.compaction import compact
    from nda_index.indexing.edits import EditSummary
    from nda_index.indexing.estimate import Estimate
    from nda_index.indexing.removal import remove_images
    from nda_index.indexing.request import estimate_build
    from nda_index.scales import Scale
    from nda_index.trust.verdict import Verdict

__all__ = [
    "AnswerFormatError",
    "Attribution",
    "ConfigError",
    "CopySummary",
    "CorruptIndexError",
    "Denoised",
    "EditSummary",
    "Estimate",
    "ImageDecodeError",
    "Index",
    "IndexFormatError",
    "Latent",
    "LockedError",
    "MismatchError",
    "MissingDependencyError",
    "NdaIndexError",
    "NotAnIndexError",
    "QueryError",
    "Scale",
    "ServiceError",
    "ShardLostError",
    "SourceError",
    "StorageError",
    "Trial",
    "Tuning",
    "Verdict",
    "VersionError",
    "__version__",
    "add_images",
    "build_index",
    "compact",
    "estimate_build",
    "exact",
    "open_index",
    "pull_index",
    "push_index",
    "read_answer",
    "read_picture",
    "remove_images",
    "tune",
]

_NAMES = {
    "answer.attribution": "Attribution read_answer",
    "answer.denoised": "Denoised",
    "copies.pull": "pull_index",
    "copies.push": "push_index",
    "copies.summary": "CopySummary",
    "evaluate.tuning": "Trial Tuning tune",
    "images": "Latent read_picture",
    "index": "Index build_index open_index",
    "indexing.addition": "add_images",
    "indexing.compaction": "compact",
    "indexing.edits": "EditSummary",
    "indexing.estimate": "Estimate",
    "indexing.removal": "remove_images",
    "indexing.request": "estimate_build",
    "scales": "Scale",
    "trust.verdict": "Verdict",
}  # of each module
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> _typing.Any:
    if name == "exact":
        return _importlib.import_module("nda_index.exact")
    if name not in _HOMES:
        raise AttributeError(f"module 'nda_index' has no attribute {name!r}")
    value = globals()[name] = getattr(_importlib.import_module(f"nda_index.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
