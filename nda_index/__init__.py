"""nda_index tells which training images a generated image is made of."""

from nda_index import exact
from nda_index.answer.attribution import Attribution, read_answer
from nda_index.answer.denoised import Denoised
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
from nda_index.evaluate.tuning import Trial, Tuning, tune
from nda_index.index import Index, build_index, open_index
from nda_index.indexing.addition import add_images
from nda_index.indexing.compaction import compact
from nda_index.indexing.edits import EditSummary
from nda_index.indexing.estimate import Estimate
from nda_index.indexing.removal import remove_images
from nda_index.indexing.request import estimate_build
from nda_index.scales import Scale
from nda_index.trust.verdict import Verdict
from nda_index.version import __version__

__all__ = [
    "AnswerFormatError",
    "Attribution",
    "ConfigError",
    "CorruptIndexError",
    "Denoised",
    "EditSummary",
    "Estimate",
    "ImageDecodeError",
    "Index",
    "IndexFormatError",
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
    "read_answer",
    "remove_images",
    "tune",
]
