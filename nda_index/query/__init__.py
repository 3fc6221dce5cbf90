"""A question on its way: to every shard, through both stages, and back to one answer."""
