"""All properties by name, in the order in which they are listed."""

from lutcore.verif import properties_decoder, properties_dma, properties_lane, properties_streams
from lutcore.verif.prove_model import Property

__all__ = ["PROPERTIES"]


def _collect() -> dict[str, Property]:
    found: dict[str, Property] = {}
    for module in (properties_decoder, properties_dma, properties_lane, properties_streams):
        for proof in module.PROPERTIES:
            assert proof.name not in found, proof.name
            found[proof.name] = proof
    return found


PROPERTIES = _collect()
