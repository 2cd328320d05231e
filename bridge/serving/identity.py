"""What made the vectors of a place: those of another maker are no neighbours of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import xxhash

from bridge.serving.collection import bridge_place
from bridge.serving.state import Served


def identities(served: Served) -> dict[str, str]:
    """place -> a bridge's fingerprint, or a hash of what is known of a space's encoder."""
    dimensions = {
        one.header.space: one.header.dimension for one in served.collections.values() if one.own
    }
    for bridge in served.bridges.values():
        dimensions |= {space.name: space.dimension for space in bridge.spaces.values()}
    made_by = {bridge_place(name): one.fingerprint for name, one in served.bridges.items()}
    for name, space in served.spaces.items():
        known = _known(space.encoder), dimensions.get(name), served.embedder.overrides.get(name)
        made_by[name] = xxhash.xxh3_128_hexdigest(json.dumps(known, sort_keys=True).encode())
    return made_by


def _known(encoder: Mapping[str, Any]) -> dict[str, Any]:
    """What tells an encoder from others, as `features.memories.provenance` does."""
    told = ("weights" if encoder.get("weights") else "spec", "preprocessing")
    return {key: encoder.get(key) for key in told}
