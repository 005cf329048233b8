"""Running many independent pieces of work: in this process or in several."""

from ._shards import map_shards as map_shards
