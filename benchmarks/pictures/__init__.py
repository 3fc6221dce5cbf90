"""Photographs and composites: which pictures does a picture of 1,024 px contain pieces of, and where.

    python -m benchmarks.pictures.make FOLDER --set choosing --seed 1 [--packages CACHE]
    python -m benchmarks.pictures.baseline FOLDER --with sift

`make` takes pictures from Debian packages (`packages`), finds which of them are related (`originals`), cuts a
collection, held-out bases and unrelated queries of them (`collection`), and pastes edited pieces (`edits`) into bases
(`composites`). `judge` compares answers with what was pasted. `sift` and `thumbnail` are two systems to compare with.

Settings are chosen on the set `choosing`, and confirmed once on the set `confirming`, which shares no package with it.
"""
