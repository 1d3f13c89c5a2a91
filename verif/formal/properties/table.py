"""The precompute unit writes exactly the tables, of any activations, in both banks.

By induction from reset, with words and free banks coming at any time. The unit is followed by a
model that adds the activations of a set in the order of the entries; what the model has in each
entry is, by arithmetic on the factors alone, the entry of the contract (checked as the property is
made: the factors of neighbours differ in one place), and fits its bits.
"""

from functools import partial
from itertools import pairwise
from typing import Any

from amaranth.hdl import Array, Const, Mux, Signal, Value, signed

from lutcore.hw.contract.config import CoreConfig
from lutcore.verif.formal.contract import coefficients, columns
from lutcore.verif.formal.model import Model, Net, Property, config_label

__all__ = ["PROPERTIES", "steps", "walk"]


def walk(config: CoreConfig, ternary: bool) -> list[int]:
    """Entries in the order in which they are written."""
    count = len(coefficients(config, ternary))
    return [n if ternary else n ^ n >> 1 for n in range(count)]


def steps(config: CoreConfig, ternary: bool) -> list[tuple[int, int]]:
    """From each entry written to the next: which activation changes, and by how many times it."""
    table = coefficients(config, ternary)
    order = walk(config, ternary)
    found = []
    for before, after in pairwise(order):
        change = [b - a for a, b in zip(table[before], table[after], strict=True)]
        (place,) = (j for j, c in enumerate(change) if c)
        found.append((place, change[place]))
    return found


def _fits(config: CoreConfig, ternary: bool) -> bool:
    """Whether every entry fits its bits, with the activations at their extremes."""
    low, high = -(1 << config.activation_bits - 1), (1 << config.activation_bits - 1) - 1
    top = 1 << config.entry_width - 1
    return all(
        -top <= sum(f * (low if f > 0 else high) for f in factors)
        and sum(f * (high if f > 0 else low) for f in factors) < top
        for factors in coefficients(config, ternary)
    )


def _table(config: CoreConfig, ternary: bool, model: Model) -> None:
    from lutcore.hw.compute.fill import TableFill

    assert _fits(config, ternary)
    m = model.m
    dut = model.unit(TableFill(config))
    count, order = columns(config, ternary), walk(config, ternary)
    table = coefficients(config, ternary)
    width, bits = config.entry_width, config.activation_bits
    model.drive(dut.i.valid, "valid")
    model.drive(dut.i.payload, "word")
    model.drive(dut.o.ready, "ready")
    model.drive(dut.begin, "begin")
    m.d.comb += [dut.ternary.eq(int(ternary)), dut.release.eq(dut.o.valid & dut.o.ready)]
    start, full, half = (model.probe(f"dut.operands.{n}") for n in ("start", "full", "half"))
    filling, last = model.probe("dut.filling"), model.probe("dut.last")
    words = model.probe("dut.operands.count", config.group.bit_length())
    index = model.probe("dut.index", max(1, (config.entries - 1).bit_length()))
    place_bits = (config.group - 1).bit_length()
    tables = config.rows * config.depth
    rows = [model.probe(f"dut.operands.memory[{n}]", bits * tables) for n in range(2 << place_bits)]
    taken = dut.i.valid & dut.i.ready
    at = Mux(full, 0, words)
    model.claim((words <= count) & (full == (words == count)), "words_of_a_set")

    # The model: the set that is collected, the one that is filled, and its current entry.
    t = tables - 1
    a = dut.i.payload.a[t]
    collected = [Signal(signed(bits), name=f"collected_{j}") for j in range(count)]
    filled = [Signal(signed(bits), name=f"filled_{j}") for j in range(count)]
    total, value = Signal(width, name="total"), Signal(width, name="value")
    written = Signal(len(order), name="written")
    for j in range(count):
        with m.If(taken & (at == j)):
            m.d.sync += collected[j].eq(a)
        with m.If(start):
            m.d.sync += filled[j].eq(collected[j])
    begins = table[order[0]]
    with m.If(taken):
        factor: Value = Array(Const(f, signed(2)) for f in begins)[at]
        m.d.sync += total.eq(Mux(at == 0, 0, total) + Mux(factor > 0, a, Mux(factor < 0, -a, 0)))
    following = Signal(width)
    with m.Switch(index):
        for number, (place, change) in enumerate(steps(config, ternary)):
            with m.Case(number):
                m.d.comb += following.eq(value + change * filled[place])
        with m.Default():  # ternary: the two entries of zero in front
            m.d.comb += following.eq(value)
    with m.If(start):
        m.d.sync += [value.eq(total), written.eq(0)]
    with m.Elif(filling):
        m.d.sync += [value.eq(following)]
    for entry, number in enumerate(order):
        with m.If(filling & ~start & (index == entry)):
            m.d.sync += written.bit_select(Const(number, 8), 1).eq(1)

    current = model.probe(f"dut.current_{t}", width)
    if any(begins):
        first = model.probe(f"dut.operands.first_{t}", width)
        model.claim((words == 0) | (first == total), "first_entry")
    else:
        model.claim(total == 0, "first_entry_is_zero")
    for j in range(count):
        slot = j, j + (1 << place_bits)
        kept = Mux(half, rows[slot[1]], rows[slot[0]])[t * bits : (t + 1) * bits]
        read = Mux(half, rows[slot[0]], rows[slot[1]])[t * bits : (t + 1) * bits]
        model.claim((words <= j) | (kept == collected[j].as_unsigned()), f"keeps_{j}")
        model.claim(~filling | (read == filled[j].as_unsigned()), f"reads_{j}")
    model.claim(~filling | (current == value), "current_entry")
    model.claim(last == (filling & (index == len(order) - 1)), "ends_with_the_last")
    extra = index >= len(order)
    if ternary:
        model.claim(~filling | ~extra | (value == 0), "zero_in_front")
    else:
        model.claim(~filling | ~extra, "no_others")

    # What can be seen from outside.
    names = Array(Const(n, 8) for n in order)
    address = dut.write_address[: dut.address_width - 1]
    model.claim(dut.write_enable == filling, "writes")
    model.claim(~filling | extra | (address == names[index]), "in_the_order_of_the_walk")
    model.claim(~filling | ~extra | (address == index), "zeros_where_none_are")
    model.claim(
        ~filling | (dut.write_data[t].as_unsigned() == Mux(extra, 0, value)), "writes_the_entries"
    )
    for number, name in enumerate(order):
        done = written[name] == ((index > number) & ~extra)
        model.claim(~filling | done, f"entry_{name}_once")
    bank = dut.write_address[-1]
    before = model.past(bank)
    turned = model.past(last)
    model.claim(~model.started | (bank == before ^ turned), "banks_in_turn")
    model.reachable(last & bank, "second_bank")


_RISING = Net("dut.rising", "adds where it should subtract", 0)
_HALF = Net("dut.operands.half", "one half is never used", 0)
_TRIT = Net("dut.falling", "trits are never subtracted", 0)
_CARRY = Net("dut.operands.first_0", "the first entry is another one")


def _property(config: CoreConfig, ternary: bool, twin: Net, quick: bool = False) -> Property:
    kind = "trits" if ternary else config.table_form + ("-bits" if config.ternary else "")
    words, entries = columns(config, ternary), len(coefficients(config, ternary))
    return Property(
        name=f"table-{kind}-k{config.group}-{config.activation}",
        unit="table",
        claim="the precompute unit writes exactly the entries of any activations, in both banks",
        config=config_label(config),
        build=partial(_table, config, ternary),
        twin=twin,
        depth=2,
        twin_depth=2 * words + entries + 4,
        quick=quick,
    )


def _properties() -> list[Property]:
    def config(form: str, group: int, **more) -> CoreConfig:
        keys: dict[str, Any] = {"rows": 1, "lanes": 8, "depth": 1, "planes": 1}
        keys |= {"bus_width": 32, "tiles": 2} | more
        return CoreConfig(table_form=form, group=group, **keys)

    found = []
    for group in range(2, 7):
        twin = _RISING if group % 2 else _HALF
        found.append(_property(config("symmetric", group), False, twin, group == 3))
        twin = _RISING if group % 2 else _HALF
        found.append(_property(config("full", group), False, twin))
    found.append(_property(config("symmetric", 4, activation="int16", depth=2), False, _HALF))
    found.append(_property(config("symmetric", 5, ternary=True), False, _CARRY))
    found.append(_property(config("symmetric", 5, ternary=True), True, _TRIT))
    return found


PROPERTIES = _properties()
