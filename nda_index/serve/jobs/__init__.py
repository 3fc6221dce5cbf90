"""Jobs: many pictures, worked off between questions and kept as files beside the stored answers."""
