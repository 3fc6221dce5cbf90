"""Photographs at their own size: which region of a picture comes from which region of an indexed one.

`windows` takes windows of a picture at all levels, `catalogue` holds those of a collection, `placements` finds where
many windows agree, `comparison` looks at the pixels there, and `search` puts it together (docs/pictures.md).
"""
