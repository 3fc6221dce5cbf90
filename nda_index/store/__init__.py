"""An index on disk: its manifest, its files and their locks, and the table of images."""
