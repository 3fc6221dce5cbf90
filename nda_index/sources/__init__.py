"""Where images come from: folders, Parquet files, WebDataset shards, .npz files and arrays.

`open_source` counts a source's images and finds its metadata columns; `read_batches` decodes its images in order.
"""

from nda_index.sources.base import Absent, Describe, Failure, ImageBatch, OpenSource, RawImage, Source, Unreadable
from nda_index.sources.latents import read_latent
from nda_index.sources.metadata import OWN_COLUMNS
from nda_index.sources.reading import open_source, read_batches, select_positions

__all__ = [
    "OWN_COLUMNS",
    "Absent",
    "Describe",
    "Failure",
    "ImageBatch",
    "OpenSource",
    "RawImage",
    "Source",
    "Unreadable",
    "open_source",
    "read_batches",
    "read_latent",
    "select_positions",
]
