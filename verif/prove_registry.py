"""All properties by name, in the order in which they are listed."""

from lutcore.verif import (
    properties_accumulator,
    properties_coding,
    properties_decoder,
    properties_dma,
    properties_lane,
    properties_refusals,
    properties_streams,
    properties_table,
)
from lutcore.verif.prove_model import Property

__all__ = ["PROPERTIES"]

_MODULES = (
    properties_lane,
    properties_table,
    properties_coding,
    properties_accumulator,
    properties_decoder,
    properties_refusals,
    properties_streams,
    properties_dma,
)


def _collect() -> dict[str, Property]:
    found: dict[str, Property] = {}
    for module in _MODULES:
        for proof in module.PROPERTIES:
            assert proof.name not in found, proof.name
            found[proof.name] = proof
    return found


#: Every property by its name.
PROPERTIES = _collect()
