"""What the service says, as JSON values: of the index, of an answer, of its links."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nda_index.answer.attribution import Attribution
from nda_index.exact.links import GRID
from nda_index.index import Index
from nda_index.serve.filters import column_kind
from nda_index.serve.forms import Options
from nda_index.serve.settings import FORMATS, ServeSettings
from nda_index.version import __version__

EXAMPLES = 6
WEAKEST_LINK = 1e-3  # of the image's score: fainter links are left out


def columns_of(index: Index) -> dict[str, str]:
    """Columns that a condition may name, and what they hold."""
    return {"key": "string", **{field.name: column_kind(field.type) for field in index.metadata_schema()}}


def index_values(index: Index, columns: dict[str, str], settings: ServeSettings) -> dict[str, Any]:
    """What `GET /v1/index` answers."""
    ids = index.image_ids
    examples = ids[np.unique(np.linspace(0, len(ids) - 1, EXAMPLES).round().astype(int))] if len(ids) else ids
    return {
        "version": __version__,
        "index_hash": index.manifest.index_hash,
        "images": len(index),
        "shape": list(index.shape),
        "scales": [
            {
                "name": scale.name,
                "patch": scale.patch,
                "downscale": scale.downscale,
                "weight": scale.weight,
                "window": scale.patch,
            }
            for scale in index.scales
        ],
        "columns": [{"name": name, "type": kind} for name, kind in columns.items()],
        "null_pictures": index.null_pictures,
        "defaults": Options().model_dump(),
        "limits": {
            "bytes": settings.upload_bytes,
            "pixels": settings.pixels,
            "top": min(settings.top, len(index)),
            "candidates": len(index),
            "formats": list(FORMATS),
        },
        "examples": examples.tolist(),
        "filters": any(kind != "other" for kind in columns.values()),
    }


def result_values(answer: Attribution, identity: str) -> dict[str, Any]:
    """What `POST /v1/attribute` and `GET /v1/results/{id}` answer."""
    place = f"/v1/results/{identity}"
    values = answer.to_dict()
    metadata = answer.metadata.to_pylist() or [{}] * len(answer)
    for rank, image in enumerate(values["images"]):
        maps = f"{place}/maps/{rank + 1}"
        image |= {
            "url": f"/v1/images/{image['image_id']}",
            "verdict": _verdict(answer, rank),
            "metadata": metadata[rank],
            "query_map": f"{maps}/query.png",
            "train_map": f"{maps}/train.png",
            "links": f"{place}/links/{rank + 1}",
        }
    height, width = answer.query.shape[:2]
    query = {"url": f"{place}/query.png", "width": width, "height": height}
    return {"id": identity, "query": query, "scales": [scale.name for scale in answer.scales], **values}


def links_values(links: NDArray[np.float64], score: float) -> dict[str, Any]:
    """What `GET /v1/results/{id}/links/{rank}` answers: pairs of cells with what one gets from the other."""
    here, there = np.nonzero(links >= WEAKEST_LINK * score)
    weights = links[here, there]
    order = np.argsort(-weights, kind="stable")
    pairs = zip(here[order].tolist(), there[order].tolist(), weights[order].tolist(), strict=True)
    return {"grid": [GRID, GRID], "pairs": [list(pair) for pair in pairs]}


def _verdict(answer: Attribution, rank: int) -> dict[str, Any] | None:
    if np.isnan(answer.percentiles[rank]):
        return None
    verdict = answer.verdict(rank)
    return {"strong": verdict.strong, "text": str(verdict), "percentile": verdict.percentile}
