"""How much of its peak an array uses, which the simulation also checks against numpy."""

import pytest

from lutcore.fpga.density import lut_array
from lutcore.fpga.density.lut_array import measure_use
from lutcore.hw.contract.config import CoreConfig

CASES = [
    # Group 4 divides everything; a set outlasts the fill of the next one even with one plane.
    (CoreConfig(group=4, depth=16, planes=4), 4, 128, False, 1.0),
    (CoreConfig(group=4, depth=16, planes=1), 1, 128, False, 1.0),
    (CoreConfig(group=4, depth=8, planes=2, table_form="full"), 2, 32, False, 1.0),
    # A step of 65 columns: the second one of a group has 63; of 64, half are empty.
    (CoreConfig(group=5, depth=13, planes=1), 1, 128, False, 128 / 130),
    (CoreConfig(group=4, depth=16, planes=4), 4, 32, False, 0.5),
    # 86 triples of trits in eight steps of eleven tables.
    (CoreConfig(group=5, depth=11, planes=1, ternary=True), 1, 256, True, 256 / 264),
    # The fill of 32 entries takes twice as long as 16 tiles of one plane.
    (CoreConfig(group=5, depth=4, planes=1, table_form="full"), 1, 20, False, 0.5),
]


@pytest.mark.parametrize(("config", "planes", "group", "trits", "share"), CASES)
def test_use(config: CoreConfig, planes: int, group: int, trits: bool, share: float) -> None:
    use = measure_use(config, planes, group, trits=trits)
    assert use.columns == 2 * group
    assert use.share == pytest.approx(share, rel=0.005)


def test_a_wrong_sum_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    word = lut_array.weight_word
    monkeypatch.setattr(lut_array, "weight_word", lambda *rest: word(*rest) ^ 1)
    with pytest.raises(AssertionError, match="sums are wrong"):
        measure_use(CoreConfig(group=4, depth=2, planes=1), 1, 8)
