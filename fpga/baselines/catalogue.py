"""The arrays that a LUT array has to beat: every form of each, for a target.

Which form is the strongest depends on the target, the weights and the lanes, so that all of them
are measured and the best is the bar.
"""

from collections.abc import Callable
from dataclasses import dataclass

from lutcore.fpga.baselines.addsub import GatedTree, SignedTree
from lutcore.fpga.baselines.array import ArraySpec, BaselineArray
from lutcore.fpga.baselines.mac import Multipliers
from lutcore.fpga.baselines.mux import FusedChains, TableMux
from lutcore.fpga.baselines.popcount import Popcount
from lutcore.fpga.synth.flow import TARGETS
from lutcore.hw.cells.placed import FAMILIES

__all__ = ["ArraySpec", "Baseline", "baselines"]


@dataclass(frozen=True)
class Baseline:
    """One form of a baseline.

    Attributes
    ----------
    letter
        ``"a"`` multiply-accumulate, ``"b"`` adder tree, ``"c"`` multiplexer of tables, ``"d"`` AND
        and popcount.
    name
        Short and unique.
    description
        What it is, in a line.
    targets
        Where it makes sense.
    build
        From what the array has to do.
    fits
        Whether it can do that.
    dsp
        To be synthesised with DSP blocks.
    """

    letter: str
    name: str
    description: str
    targets: tuple[str, ...]
    build: Callable[[ArraySpec], BaselineArray]
    fits: Callable[[ArraySpec], bool]
    dsp: bool = False

    def family(self, target: str) -> str | None:
        """The family whose carry cells are placed when it is built for ``target``."""
        return target if target in FAMILIES else None


def baselines(spec: ArraySpec, target: str) -> list[Baseline]:
    """Every form that can do what ``spec`` says, for a target.

    Raises
    ------
    ValueError
        If there is no such target.
    """
    if target not in TARGETS:
        raise ValueError(f"target must be one of {', '.join(TARGETS)}, not {target!r}")
    return [form for form in _FORMS if target in form.targets and form.fits(spec)]


def _binary(spec: ArraySpec) -> bool:
    return not spec.ternary


def _whole_weights(spec: ArraySpec) -> bool:
    return spec.columns % spec.bits == 0


def _planes_in_space(spec: ArraySpec) -> bool:
    return not spec.ternary and spec.bits > 1 and spec.columns % spec.bits == 0


def _gated(spec: ArraySpec) -> bool:
    return _binary(spec) or spec.columns % 2 == 0


def _trits(spec: ArraySpec) -> bool:
    return spec.ternary and spec.columns % 2 == 0


def _chain(adders: int, leaf: str, parallel: bool = False) -> Callable[[ArraySpec], BaselineArray]:
    return lambda spec: FusedChains(spec, adders=adders, leaf=leaf, parallel=parallel)


def _table(group: int, symmetric: bool) -> Callable[[ArraySpec], BaselineArray]:
    return lambda spec: TableMux(spec, group=group, symmetric=symmetric)


_FORMS = (
    Baseline(
        "a",
        "mac",
        "a multiplier and a register per weight, adder tree",
        TARGETS,
        Multipliers,
        _whole_weights,
    ),
    Baseline(
        "a",
        "mac-dsp",
        "the same with DSP blocks",
        ("xc7", "ecp5", "ice40"),
        Multipliers,
        _whole_weights,
        dsp=True,
    ),
    Baseline(
        "a",
        "mac-tree",
        "all planes in one cycle, gates in the cells of the first adders",
        TARGETS,
        lambda spec: GatedTree(spec, gate="cell", parallel=True),
        _planes_in_space,
    ),
    Baseline(
        "a",
        "mac-tree-reset",
        "all planes in one cycle, gated by the reset of registers",
        TARGETS,
        lambda spec: GatedTree(spec, gate="reset", parallel=True),
        _planes_in_space,
    ),
    *(
        Baseline(
            "a",
            f"mac-chain-{leaf}-{adders}",
            f"all planes in one cycle, chains of {adders} adders with multiplexers of two columns, "
            f"first {'a gated register' if leaf == 'reset' else 'a multiplexer'}",
            ("xc7",),
            _chain(adders, leaf, parallel=True),
            _planes_in_space,
        )
        for leaf, adders in (("reset", 1), ("table", 3))
    ),
    Baseline(
        "b",
        "signed-tree",
        "±1, adders and subtracters by relative signs",
        TARGETS,
        SignedTree,
        _binary,
    ),
    Baseline(
        "b",
        "gated-tree",
        "{0,1}, gates in the cells of the first adders",
        TARGETS,
        lambda spec: GatedTree(spec, gate="cell"),
        _binary,
    ),
    Baseline(
        "b",
        "gated-tree-reset",
        "{0,1} or {-1,0,1}, gated by the reset of registers",
        TARGETS,
        lambda spec: GatedTree(spec, gate="reset"),
        _gated,
    ),
    Baseline(
        "b",
        "trit-tree",
        "{-1,0,1}, gates and signs of two columns in one cell per bit",
        ("xc7", "ice40", "cells"),
        lambda spec: GatedTree(spec, gate="cell"),
        _trits,
    ),
    *(
        Baseline(
            "c",
            f"mux-{group}-{'symmetric' if symmetric else 'full'}",
            f"tables of {group} activations in registers, a multiplexer per lane"
            + (", relative signs" if symmetric else ""),
            TARGETS,
            _table(group, symmetric),
            _binary,
        )
        for symmetric in (True, False)
        for group in (2, 3, 4)
    ),
    *(
        Baseline(
            "c",
            f"mux-chain-{leaf}-{adders}",
            f"chains of {adders} adders with multiplexers of two columns, "
            f"first {'a gated register' if leaf == 'reset' else 'a multiplexer'}",
            ("xc7",),
            _chain(adders, leaf),
            _binary,
        )
        for leaf, adders in (("reset", 1), ("reset", 3), ("table", 3), ("table", 7))
    ),
    Baseline(
        "d",
        "popcount",
        "bits of weights AND bits of activations, counted; as many times more products as an "
        "activation has bits",
        TARGETS,
        Popcount,
        _binary,
    ),
)
