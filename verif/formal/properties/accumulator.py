"""An accumulator does not overflow, for the longest run that the configuration admits.

The step of an induction over the steps of a run, from every state of the datapath: if a tile's sum
is that of some columns, each at its extreme at most, and there is room for a step within the run,
then the next step of that tile adds exactly what it selects, and the sum stays within the extremes
of its columns. A run's first step (see the proofs of the lanes) begins the induction.
"""

from functools import partial
from typing import Any

from amaranth.hdl import Const, Mux, Signal, Value, signed

from lutcore.hw.contract.config import CoreConfig
from lutcore.verif.formal.contract import coefficients
from lutcore.verif.formal.model import Model, Net, Patch, Property
from lutcore.verif.formal.properties.lane import LANE, issue, select, write_tables

__all__ = ["PROPERTIES"]


def _times(config: CoreConfig) -> tuple[int, int, int, int]:
    """Cycles: first step begins, second step begins, and their sums are there."""
    from lutcore.hw.compute.lanes import Lanes

    first = len(coefficients(config, config.ternary))
    planes = 1 if config.ternary else config.planes
    # The sum of a step of a single word is not ready for the word behind it.
    second = first + planes + (planes == 1)
    latency = planes - 1 + Lanes.latency_of(config)
    return first, second, first + latency, second + latency


def _accumulate(config: CoreConfig, model: Model) -> None:
    from lutcore.hw.compute.lanes import Lanes

    m = model.m
    ternary = config.ternary
    dut = model.unit(Lanes(config))
    bank = model.constant("bank")
    tables, cycle = write_tables(model, dut, config, ternary, bank)
    first, second, sum_1, sum_2 = _times(config)
    planes = 1 if ternary else config.planes
    counts = model.constant("counts", config.depth)
    entry = model.constant("entry", range(config.tiles))
    model.given(entry < config.tiles)
    begins = model.constant("begins")  # the first of the two steps is the first of its run

    # Between the two, and before them, the steps of other tiles.
    other = model.free("other_step", dut.step.shape())
    plane = Signal(8)
    going = Signal()
    with m.If((cycle >= second) & (cycle < second + planes)):
        m.d.comb += [going.eq(1), plane.eq(cycle - second)]
    with m.Elif((cycle >= first) & (cycle < first + planes)):
        m.d.comb += [going.eq(1), plane.eq(cycle - first)]
    m.d.comb += [dut.step.eq(other), dut.step.signs.eq(counts)]
    model.given(going | (other.entry != entry))
    with m.If(cycle == first - 1):
        m.d.comb += [dut.step.valid.eq(1), dut.step.plane_last.eq(1)]
    with m.Elif((cycle >= first) & ~going):
        m.d.comb += dut.step.plane_last.eq(1)
    with m.If(going):
        m.d.comb += [
            dut.step.valid.eq(1),
            dut.step.bank.eq(bank),
            dut.step.plane_last.eq(plane == planes - 1),
            dut.step.run_first.eq(begins & (cycle < second)),
            dut.step.entry.eq(entry),
        ]

    added: Value = Const(0, 1)
    indices: list[Value] = [Const(0, config.group)] * config.depth
    for p in range(planes):
        earlier, _ = select(model, config, tables, counts, f"1_{p}")
        stored, total = select(model, config, tables, counts, f"2_{p}")
        added = (added << 1) + total
        for time, these in ((first, earlier), (second, stored)):
            now = cycle == time + p
            indices = [Mux(now, new, old) for new, old in zip(these, indices, strict=True)]
    issue(model, dut, config, indices)

    got = dut.o_sums[LANE * config.rows + config.rows - 1]
    before = Signal(signed(config.acc_width), name="before")
    with m.If(cycle == sum_1):
        m.d.sync += before.eq(got)
    done = model.named(cycle == sum_2, "done")
    # Columns summed so far, each with weights and activations at their extremes.
    step = config.depth * (3 if ternary else config.group)
    places = config.run * 3 // config.group if ternary else config.run
    extreme = (2**planes - 1) << config.activation_bits - 1
    columns = model.constant("columns", 18)
    model.given(columns + step <= places)
    bound = columns * extreme
    model.given(~done | ((before <= bound) & (before >= -bound)))
    after = bound + step * extreme
    model.claim(~done | (got == before + added), "adds_exactly")
    model.claim(~done | ((got <= after) & (got >= -after)), "stays_within_the_extremes")
    model.reachable(done & (got == after), "extreme")


def _narrower(right: property) -> property:
    assert right.fget is not None
    return property(lambda config: right.fget(config) - 1)  # type: ignore[misc]


_CONFIG = "lutcore.hw.contract.config:CoreConfig"
_TOTAL = Patch(_CONFIG, "acc_width", _narrower, "a bit fewer in the accumulators")
_FIRST = Net(f"dut.before_0_{LANE}", "what was accumulated before is forgotten", 0)
_SHIFT = Patch(_CONFIG, "shift_width", _narrower, "a bit fewer in the sum over planes")


def _property(name: str, twin: Net | Patch, **keys) -> Property:
    base: dict[str, Any] = {"rows": 1, "lanes": 8, "group": 2, "depth": 1, "planes": 1}
    base |= {"bus_width": 32, "tiles": 2}
    config = CoreConfig(**(base | keys))
    return Property(
        name=f"accumulator-{name}",
        unit="accumulator",
        claim="each step adds exactly what it selects, for runs of any length that is admitted",
        config=f"run {config.run}, P{config.planes}, {config.activation}, {config.acc_width} bits",
        build=partial(_accumulate, config),
        twin=twin,
        method="window",
        depth=_times(config)[3] + 1,
        quick=name == "short",
    )


PROPERTIES = [
    _property("short", _TOTAL, run=8),
    _property("long", _TOTAL, run=16384),
    _property("odd", _FIRST, run=4095, group=3, table_form="full"),
    _property("planes", _SHIFT, run=8, planes=2),
    _property("int16", _TOTAL, run=512, activation="int16"),
    _property("ternary", _FIRST, run=40, group=5, ternary=True),
]
