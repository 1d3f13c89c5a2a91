"""Every stream in the core keeps its offer until it is taken.

Unit by unit, by induction: each unit is given streams that keep the rule, and any other inputs, and
its own must keep it too. Together they say it of the core. `all_streams` lists what there is.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from amaranth.hdl import Fragment, Signal, Value
from amaranth.lib import wiring

from lutcore.hw.contract.config import CoreConfig
from lutcore.verif.formal.model import Model, Net, Property, streams_of

__all__ = ["PROPERTIES", "SOURCES", "all_streams", "stands_contract"]

_CONFIG = CoreConfig(
    rows=1, lanes=8, group=2, depth=1, planes=1, bus_width=32, tiles=1, run=8,
    weight_words=2, scale_words=64, x_words=8, sum_words=8, scale_lanes=1, final_lanes=1,
)  # fmt: skip
#: Inputs that do not change while a unit is at work.
_CONSTANT = ("layer", "fields")


def all_streams(config: CoreConfig) -> list[tuple[str, str]]:
    """Streams of the core that a unit of ours is the source of: class of the unit, name."""
    from lutcore.hw.core import Core

    found: dict[tuple[str, str], None] = {}

    def walk(fragment: Any) -> None:
        for origin in fragment.origins or ():
            if isinstance(origin, wiring.Component):
                for name, _, source in streams_of(origin):
                    if source:
                        found[type(origin).__name__, name.partition("[")[0]] = None
        for inner, _, _ in fragment.subfragments:
            walk(inner)

    walk(Fragment.get(Core(config), None))
    return list(found)


def stands_contract(model: Model, dut: Any) -> None:
    """Streams that a unit offers stand until they are taken, whatever else it is given.

    Parameters
    ----------
    model
        Gets free inputs, assumptions and claims.
    dut
        Interface of the unit.
    """
    unless: Any = 0
    for path, member, port in dut.signature.flatten(dut):
        name = "_".join(map(str, path))
        if member.flow != wiring.In:
            continue
        driver = model.constant if path[0] in _CONSTANT else model.free
        signal = driver(f"in_{name}", Value.cast(port).shape())
        model.m.d.comb += Value.cast(port).eq(signal)
        if path == ("abort",):
            unless = model.past(signal)
    for name, interface, source in streams_of(dut):
        label = name.replace(".", "_").replace("[", "_").replace("]", "")
        stands = model.holds_until_taken(interface)
        if source:
            model.claim(stands | unless, f"{label}_stands")
            model.reachable(interface.valid & ~interface.ready, f"{label}_waits")
        else:
            model.given(stands)


def _stable(
    make: Callable[[], Any],
    more: Callable[[Model, Any], None] | None,
    model: Model,
) -> None:
    dut = model.unit(make())
    stands_contract(model, dut)
    if more is not None:
        more(model, dut)


def _axi(model: Model, dut: Any) -> None:
    """Channels of AXI that the unit is the source of."""
    bus = getattr(dut, "bus", None) or dut.axi
    payloads = {
        "ar": ("araddr", "arlen"),
        "aw": ("awaddr", "awlen"),
        "w": ("wdata", "wstrb", "wlast"),
        "r": ("rdata", "rresp"),
        "b": ("bresp",),
    }
    master = hasattr(dut, "bus")
    for channel, names in payloads.items():
        if not hasattr(bus, f"{channel}valid") or (channel in "rb") == master:
            continue
        valid, ready = getattr(bus, f"{channel}valid"), getattr(bus, f"{channel}ready")
        waits = model.past(valid & ~ready)
        same = [model.past(getattr(bus, n)) == getattr(bus, n) for n in names]
        stands = valid
        for one in same:
            stands = stands & one
        model.claim(~waits | stands, f"{channel}_stands")
        model.reachable(valid & ~ready, f"{channel}_waits")


def _read(model: Model, dut: Any) -> None:
    _axi(model, dut)
    held = model.probe("dut.held", dut.clients)
    spare = model.probe("dut.spare", dut.clients)
    for beat, name in ((held, "held"), (spare, "spare")):
        model.claim((beat & (beat - 1)[: dut.clients]) == 0, f"{name}_of_one_client")


def _table(model: Model, dut: Any) -> None:
    # A bank is given back with the transfer of its set, as the core wires it. Each of the two is
    # free, being filled, or holds a set that is offered.
    model.given(dut.release == (dut.o_set.valid & dut.o_set.ready))
    free = model.probe("dut.fill.free", 2)
    both = model.probe("dut.fill.sets.both")
    filling, last = (model.probe(f"dut.fill.{n}") for n in ("filling", "last"))
    offered = dut.o_set.valid + both
    model.claim(free + offered + (filling & ~last) == 2, "two_banks")
    index = model.probe("dut.fill.index")
    model.claim(~both | dut.o_set.valid, "sets_in_order")
    model.claim(last == (filling & index), "last_of_two_entries")


def _scale(model: Model, dut: Any) -> None:
    # A sum slot is free, being filled, on its way, in the queue, or read by FINAL: so that the
    # queue, which trusts its writer, is never overrun.
    from lutcore.hw.compute.scale import ScaleUnit

    free = model.probe("dut.t_free", 2)
    begins, ends, running = map(model.probe, ("dut.begin", "dut.done", "dut.running"))
    on_the_way = [model.probe(f"dut.done_{stage + 1}") for stage in range(ScaleUnit.latency - 1)]
    produce, consume = (model.probe(f"dut.queue.{n}", 2) for n in ("produce", "consume"))
    filling = Signal()
    read = Signal(2)
    tag, taken = dut.i.payload.tag, dut.o.valid & dut.o.ready
    model.m.d.sync += [
        filling.eq((filling | begins) & ~ends),
        read.eq(read + taken - dut.freed),
    ]
    # A slot is taken by the first run of a body, and given by the last; FINAL frees what it has.
    model.given(~dut.i.valid | running | (tag.t_take == ~filling))
    model.given(~dut.freed | (read != 0))
    queued = (produce - consume)[:2]
    model.claim(free + filling + sum(on_the_way) + queued + read == 2, "two_slots")
    model.claim(~running | (filling & dut.i.valid), "runs_in_a_slot")


def _loader(state_path: str, bits: int, model: Model, dut: Any) -> None:
    """A loader has a body before it while its requester is not idle."""
    state = model.probe(state_path, bits)
    model.claim((state == 0) | dut.body.valid, "has_a_body")


def _specs() -> list[tuple]:
    def lazy(module: str, name: str, *arguments: Any, **keys: Any) -> Callable[[], Any]:
        def make() -> Any:
            from importlib import import_module

            return getattr(import_module(f"lutcore.hw.{module}"), name)(*arguments, **keys)

        return make

    def loader(name: str) -> Callable[[], Any]:
        def make() -> Any:
            from lutcore.hw.transfer.activations import ActivationLoader
            from lutcore.hw.transfer.slot_writer import write_signature
            from lutcore.hw.transfer.weights import WeightLoader

            write = write_signature(32, 32, 4)
            if name == "ldx":
                return ActivationLoader(_CONFIG, write=write)
            return WeightLoader(_CONFIG, scale_write=write, bias_write=write)

        return make

    drop = "waiting gives up"
    return [
        # name, unit, more claims, twin
        ("window", lazy("memory.dma", "Window", 32), None,
         Net("dut.fsm_state", drop)),
        ("read", lazy("memory.dma", "ReadMaster", 32, 2, outstanding=2, burst=4), _read,
         Net("dut.room", "overwrites", 1)),
        ("write", lazy("memory.dma", "WriteMaster", 32, outstanding=2, burst=4), _axi,
         Net("dut.free", "overwrites", 1)),
        ("csr", lazy("control.csr_file", "CsrFile", _CONFIG), _axi,
         Net("dut.read_state", drop)),
        ("nest", lazy("control.nest", "Nest", address_width=8), None,
         Net("dut.fsm_state", drop)),
        ("store", lazy("transfer.store", "StoreUnit", _CONFIG), None,
         Net("dut.take", "overwrites", 1)),
        ("final", lazy("compute.final", "FinalUnit", _CONFIG), None,
         Net("dut.en", "no waiting", 1)),
        ("fetch", lazy("control.fetch", "Fetch", _CONFIG), None,
         Net("dut.fsm_state", drop)),
        ("ldx", loader("ldx"), partial(_loader, "dut.fsm_state", 2),
         Net("dut.fsm_state", drop)),
        ("ldw", loader("ldw"), partial(_loader, "dut.requester.fsm_state", 3),
         Net("dut.requester.fsm_state", drop)),
        ("table", lazy("compute.table", "TableUnit", _CONFIG), _table,
         Net("dut.fill.sets.taken", drop, 1)),
        ("scale", lazy("compute.scale", "ScaleUnit", _CONFIG), _scale,
         Net("dut.queue.r_rdy", drop)),
    ]  # fmt: skip


# Cycles from reset to the first offer, where they are more than a few.
_TWIN_DEPTHS = {"final": 24, "scale": 24, "ldw": 14, "table": 30}
SOURCES = {spec[0]: spec[1] for spec in _specs()}

PROPERTIES = [
    Property(
        name=f"stream-{name}",
        unit="stream",
        claim="each stream and AXI channel that the unit offers stands until it is taken",
        config="M1 N8 k2 G1, bus 32",
        build=partial(_stable, make, more),
        twin=twin,
        depth=2,
        twin_depth=_TWIN_DEPTHS.get(name, 10),
        quick=name == "window",
    )
    for name, make, more, twin in _specs()
]
