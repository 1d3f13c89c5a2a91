"""All properties by name, in the order in which they are listed."""

from lutcore.verif.formal.model import Property
from lutcore.verif.formal.properties import accumulator as properties_accumulator
from lutcore.verif.formal.properties import coding as properties_coding
from lutcore.verif.formal.properties import decoder as properties_decoder
from lutcore.verif.formal.properties import dma as properties_dma
from lutcore.verif.formal.properties import lane as properties_lane
from lutcore.verif.formal.properties import refusals as properties_refusals
from lutcore.verif.formal.properties import streams as properties_streams
from lutcore.verif.formal.properties import table as properties_table

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
