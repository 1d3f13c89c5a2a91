"""A lookup lane gives the sum of what the weights select, for every table store, form and size.

From every state of the datapath: the surroundings write one bank of tables with any entries, while
a step of another tile ends; then one tile's planes are looked up, with any indices. Meanwhile the
other bank is written with anything. That the entries are those of the activations is what the
proofs of the precompute unit say; that the sum then is the dot product, those of the coding.
"""

from functools import partial
from typing import Any

from amaranth.hdl import Array, Cat, Const, Mux, Signal, Value, signed

from lutcore.hw.contract.config import CoreConfig
from lutcore.verif.formal.contract import coded_signs, coefficients, columns, signed_value
from lutcore.verif.formal.model import Model, Net, Property, config_label

__all__ = ["PROPERTIES", "issue", "write_tables"]

#: The lane that is looked at; the other lanes' weights are free.
LANE = 5


def write_tables(
    model: Model, dut: Any, config: CoreConfig, ternary: bool, bank: Value
) -> tuple[list[Array], Value]:
    """Write tables of any entries in the first cycles: (entries of each table, cycle number)."""
    count = len(coefficients(config, ternary))
    limit = columns(config, ternary) << config.activation_bits - 1
    cycle = Signal(8, name="cycle")
    model.m.d.sync += cycle.eq(cycle + 1)
    tables = []
    for g in range(config.depth):
        low = model.constant(f"low_{g}")
        table = []
        for e in range(count):
            value = model.constant(f"entry_{g}_{e}", signed(config.entry_width))
            model.given((value >= -limit) & (value <= limit))
            if config.halved:  # sums of the same activations, with signs: all even or all odd
                model.given(value[0] == low)
            table.append(value)
        tables.append(Array(table))
    filling = cycle < count
    enable, address = model.free("other_enable"), model.free("other_address", dut.index_bits)
    junk = model.free("other_data", dut.write_data.shape())
    model.m.d.comb += [
        dut.write_enable.eq(filling | enable),
        dut.write_address.eq(Mux(filling, Cat(cycle[: dut.index_bits], bank), Cat(address, ~bank))),
        dut.write_data.eq(junk),
    ]
    row = config.rows - 1
    with model.m.If(filling):
        for g, table in enumerate(tables):
            place = row * config.depth + g
            model.m.d.comb += dut.write_data[place].eq(table[cycle])
    return tables, cycle


def issue(
    model: Model, dut: Any, config: CoreConfig, indices: list[Value], lane: int = LANE
) -> None:
    """Put a lane's stored indices onto the weights; the other lanes' are free."""
    weights = model.free("weights", config.weight_bits)
    model.m.d.comb += dut.weights.eq(weights)
    for g, index in enumerate(indices):
        for j in range(config.group):
            place = (g * config.group + j) * config.lanes + lane
            model.m.d.comb += dut.weights[place].eq(index[j])


def select(
    model: Model, config: CoreConfig, tables: list[Array], counts: Value, name: str
) -> tuple[list[Value], Value]:
    """Any index into each table: (what is stored of them, the sum that they select)."""
    count = len(tables[0])
    entries, signs = [], []
    for g in range(config.depth):
        number = model.constant(f"index_{name}_{g}", range(count))
        model.given(number < count)
        entries.append(number)
        sign = model.constant(f"sign_{name}_{g}")
        if config.symmetric:
            # Past the end of a run the top column is zero and its sign free: what is stored counts
            # as 0, whatever was left there.
            signs.append(sign)
    coded = coded_signs(config, signs)
    values: list[Value] = []
    stored = []
    for g, number in enumerate(entries):
        value = tables[g][number]
        index = Value.cast(number)
        if config.symmetric:
            model.given(counts[g] | ~coded[g])
            left_over = model.constant(f"left_{name}_{g}")
            index = Cat(index, Const(0, config.group))[: config.group - 1]
            index = Cat(index, Mux(counts[g], coded[g], left_over))
            value = signed_value(config, value, signs[g])
        stored.append(index)
        values.append(value)
    # In the order of the tree, which makes it easy for the solver: halved tables join in pairs.
    while len(values) > 1:
        count = 2 if config.halved else len(values)
        values = [sum(values[i + 1 : i + count], values[i]) for i in range(0, len(values), count)]
    return stored, values[0]


def _lane(config: CoreConfig, ternary: bool, model: Model) -> None:
    from lutcore.hw.compute.lanes import Lanes

    m = model.m
    dut = model.unit(Lanes(config))
    bank = model.constant("bank")
    tables, cycle = write_tables(model, dut, config, ternary, bank)
    first = len(tables[0])
    counts = model.constant("counts", config.depth)  # tables whose top column is in the run
    entry = model.constant("entry", 6)
    model.given(entry < config.tiles)

    # One step per plane, right behind the last step of another tile.
    planes = 1 if ternary else config.planes
    before = cycle == first - 1
    plane = (cycle - first)[:8]
    going = (cycle >= first) & (plane < planes)
    other = model.free("other_step", dut.step.shape())
    m.d.comb += [dut.step.eq(other), dut.step.valid.eq(before | going), dut.step.signs.eq(counts)]
    with m.If(before):
        m.d.comb += dut.step.plane_last.eq(1)
    with m.If(going):
        m.d.comb += [
            dut.step.bank.eq(bank),
            dut.step.plane_last.eq(plane == planes - 1),
            dut.step.run_first.eq(1),
            dut.step.run_last.eq(1),
            dut.step.entry.eq(entry),
        ]

    expected: Value = Const(0, 1)
    indices: list[Value] = [Const(0, config.group)] * config.depth
    for p in range(planes):
        stored, total = select(model, config, tables, counts, str(p))
        expected = (expected << 1) + total
        indices = [Mux(plane == p, new, old) for new, old in zip(stored, indices, strict=True)]
    issue(model, dut, config, indices)

    done = model.named(cycle == first + planes - 1 + dut.latency, "done")
    got = dut.o_sums[LANE * config.rows + config.rows - 1]
    model.claim(~done | (got == expected), "selected_sum")
    model.claim(~done | dut.o_write, "is_written")
    model.reachable(done & (got != 0), "sum")


def _property(config: CoreConfig, twin: Net, *, ternary: bool = False, quick: bool = False):
    from lutcore.hw.compute.lanes import Lanes

    kind = "trits" if ternary else config.table_form
    kind += "-bits" if config.ternary and not ternary else ""
    store = "mux" if config.table_store == "register" else "ram"
    planes = 1 if ternary else config.planes
    depth = len(coefficients(config, ternary)) + planes + Lanes.latency_of(config)
    return Property(
        name=f"lane-{kind}-k{config.group}-g{config.depth}-p{planes}-{store}"
        + ("-int16" if config.activation == "int16" else ""),
        unit="lane",
        claim="a lane gives the signed sum of the entries that its indices select",
        config=config_label(config),
        build=partial(_lane, config, ternary),
        twin=twin,
        method="window",
        depth=depth,
        cover_depth=depth if quick else 0,
        quick=quick,
    )


def _config(form: str, group: int, **more) -> CoreConfig:
    keys: dict[str, Any] = {"rows": 1, "lanes": 8, "depth": 1, "planes": 1, "bus_width": 32}
    keys |= {"tiles": 2} | more
    return CoreConfig(table_form=form, group=group, **keys)


_SIGN = Net(f"dut.sign_{LANE}_0", "the sign of a table is ignored", 0)
_INDEX = Net(f"dut.looked_0_{LANE}_0", "a lookup that ignores its index")
_SECOND = Net(f"dut.looked_1_{LANE}_0", "a lookup of the second row that ignores its index")
_BANK = _INDEX
_RELATIVE = Net(f"dut.last_1_{LANE}", "x + y for x - y", 0)
_PLANES = Net(f"dut.planes_0_{LANE}", "planes before are forgotten", 0)
_KEPT = Net(f"dut.shifted_0_{LANE}", "no plane is added to those before", 0)
_LOW = Net("dut.low_tree_0_1_0", "the carry of the lowest bits is lost", 0)
_ONE = Net(f"dut.sign_{LANE}_0_1", "negated numbers lack the last one", 0)


def _properties() -> list[Property]:
    found = []
    for group in range(2, 7):
        for store in ("distributed", "register"):
            form = _config("symmetric", group, table_store=store)
            twin = _SIGN if store == "distributed" else _INDEX
            found.append(_property(form, twin, quick=group == 3 and store == "register"))
            form = _config("full", group, table_store=store)
            found.append(_property(form, _BANK if store == "distributed" else _INDEX))
    # Trees, planes, rows and INT16; tables of several columns join as their signs say.
    found += [
        _property(_config("symmetric", 2, depth=2, rows=2), _RELATIVE),
        _property(_config("symmetric", 2, depth=3), _LOW),
        _property(_config("symmetric", 4, activation="int16"), _SIGN),
        _property(_config("full", 2, planes=2), _PLANES),
        _property(_config("full", 2, depth=4, rows=2, table_store="register"), _SECOND),
        _property(_config("symmetric", 2, planes=2), _KEPT),
    ]
    # Of ternary trees with several tables the solver gives no answer in minutes.
    found.append(_property(_config("symmetric", 5, ternary=True), _ONE, ternary=True))
    trits = _config("symmetric", 5, ternary=True, table_store="register")
    found.append(_property(trits, _ONE))
    return found


PROPERTIES = _properties()
