"""DMA stays within the region that the host opened, and keeps to the rules of AXI4 bursts."""

from functools import partial
from typing import Any

from amaranth.hdl import Cat, Const, Mux, Signal, Value
from amaranth.lib import data, wiring

from lutcore.verif.formal.model import Model, Net, Property

__all__ = ["PROPERTIES", "turns_contract", "window_contract"]

_ADDRESS = 40
_PAGE = 4096


def _beat(bus_width: int) -> int:
    return bus_width // 8


def _unit(window: Any) -> int:
    """Bytes that a window's lengths count."""
    return _beat(window.bus_width) if window.lengths == "beats" else 4


def _window(bus_width: int, lengths: str, aligned: int, model: Model) -> None:
    """A window on any region, which does not change, with any requests."""
    from lutcore.hw.memory.dma import Window

    window: Any = model.unit(Window(bus_width, lengths=lengths, aligned=aligned))
    request, inside, same = window_contract(model, window)
    # What makes the contract inductive: what the registers hold of the request.
    unit = _unit(window)
    checks = ~window.i.ready & ~window.o.valid
    held = model.probe("dut.end", max(32 - (unit.bit_length() - 1), 24) + 1)
    outside = model.probe("dut.outside")
    expected_end = (request.offset[:32] // unit) + request.length
    beat = _beat(bus_width)
    whole = window.lengths == "beats"
    odd = (request.offset[32:] != 0) | ((request.offset % beat != 0) if whole else Const(0))
    model.claim(window.i.ready != window.busy, "is_idle_or_busy")
    model.claim(~checks | (held == expected_end), "adds_the_length")
    model.claim(~checks | ~inside | same, "adds_the_base")
    model.claim(~checks | (outside == odd), "sees_outside")
    model.claim(request.length.any() | window.i.ready, "has_a_length")
    model.reachable(window.o.valid, "command")
    model.reachable(window.error, "error")


def window_contract(model: Model, window: Any) -> tuple[Any, Value, Value]:
    """A window's ports: any region and requests; what is passed on, and what is refused.

    A request inside the region is passed on as the beats that hold it; others are refused.

    Parameters
    ----------
    model
        Gets free inputs, assumptions and claims.
    window
        Interface of a `lutcore.hw.memory.dma.Window`.

    Returns
    -------
    request, inside, same
        What was taken last, whether it is in the region, and whether the command is that request.
    """
    m = model.m
    beat = _beat(window.bus_width)
    base = model.constant("base", _ADDRESS)
    size = model.constant("size", 32)
    model.given((base[:6] == 0) & (base + size <= 1 << _ADDRESS))
    m.d.comb += [window.base.eq(base), window.size.eq(size)]
    model.drive(window.i.valid, "valid")
    model.drive(window.i.payload, "request")
    model.drive(window.o.ready, "ready")
    model.given((window.i.payload.length != 0) & (window.i.payload.length <= window.longest))
    if window.lengths == "words":
        model.given(window.i.payload.offset[: window.aligned] == 0)
    request = Signal(data.StructLayout({"offset": _ADDRESS, "length": 24}), name="request")
    with m.If(window.i.valid & window.i.ready):
        m.d.sync += [
            request.offset.eq(window.i.payload.offset),
            request.length.eq(window.i.payload.length),
        ]
    command = window.o.payload
    end = request.offset + request.length * _unit(window)
    inside = end <= size
    if window.lengths == "beats":
        inside = inside & (request.offset % beat == 0)
    first, last = request.offset // beat, (end - 1) // beat
    same = (command.address == base + first * beat) & (command.beats == last - first + 1)
    # Between requests a window is either ready, or checks one, or offers its command.
    checks = ~window.i.ready & ~window.o.valid
    model.claim(~window.o.valid | (inside & same), "passes_what_is_inside")
    model.claim(~(window.o.valid & window.i.ready), "one_at_a_time")
    model.claim(~checks | (window.error == ~inside), "refuses_what_is_outside")
    model.claim(checks | ~window.error, "refuses_once")
    return request, inside, same


def _burst_claims(model: Model, address: Value, length: Value, kind: Value, size: Value, beat: int):
    """AXI4 rules for one burst that is offered."""
    total = (length + 1) * beat
    return (
        (address % beat == 0)
        & (address[:12] + total <= _PAGE)
        & (kind == 1)
        & (size == beat.bit_length() - 1)
    )


def _requests_stay_inside(
    model: Model, master: str, regions: list[tuple[Value, Value]], bus_width: int, burst: int
) -> None:
    """What is left of every request of a splitter lies within its client's region."""
    beat = _beat(bus_width)
    low_bits = burst.bit_length() - 1
    page_bits = _ADDRESS - low_bits - (beat.bit_length() - 1)
    layout = data.StructLayout(
        {"page": page_bits, "low": low_bits, "final_low": low_bits, "blocks": 24 - low_bits + 1}
    )
    waiting = model.probe(f"{master}.splitter.waiting", len(regions))
    for client, (base, end) in enumerate(regions):
        request = model.probe(f"{master}.splitter.request_{client}", layout)
        start = Cat(Const(0, beat.bit_length() - 1), request.low, request.page)
        left = request.blocks * burst + request.final_low + 1
        inside = (start >= base) & (start + (left - request.low) * beat <= end)
        model.claim(
            ~waiting[client] | (inside & (left > request.low)), f"client_{client}_stays_inside"
        )


def _command(model: Model, command: Any, name: str, bus_width: int) -> tuple[Value, Value]:
    """Requests as a window passes them on, of any region: (base, end in whole beats)."""
    beat = _beat(bus_width)
    base = model.constant(f"{name}_base", _ADDRESS)
    end = model.constant(f"{name}_end", _ADDRESS + 1)
    model.given((base % 64 == 0) & (end % beat == 0) & (end <= 1 << _ADDRESS))
    model.drive(command.valid, f"{name}_valid")
    address, beats = model.drive(command.payload, f"{name}_request"), command.payload.beats
    model.given((address[:_ADDRESS] % beat == 0) & (address[:_ADDRESS] >= base))
    model.given((beats != 0) & (address[:_ADDRESS] + beats * beat <= end))
    return base, end


def turns_contract(model: Model, splitter: Any) -> tuple[Value, Value]:
    """Clients of a master take turns, burst by burst, so that each one's next is soon.

    Parameters
    ----------
    model
        Gets free inputs, assumptions and claims.
    splitter
        Interface of a `lutcore.hw.memory.dma.Splitter`.

    Returns
    -------
    turn, waiting
        Client of the last burst; those with bursts to come.
    """
    m = model.m
    clients = splitter.clients
    for client, command in enumerate(splitter.commands):
        model.drive(command.valid, f"valid_{client}")
        model.drive(command.payload, f"request_{client}")
        model.given(command.payload.beats != 0)
    for name in ("enable", "flush"):
        model.drive(getattr(splitter, name), name)
    model.drive(splitter.o.ready, "ready")
    turn = Signal.like(splitter.following.client, name="turn")
    waiting = Signal(clients, name="waiting")
    ahead = Signal.like(turn, name="ahead")
    with m.Switch(turn):
        for last in range(clients):
            with m.Case(last):
                for client in [(last - back) % clients for back in range(clients)]:
                    with m.If(waiting[client]):
                        m.d.comb += ahead.eq(client)
    with m.If(splitter.issued):
        m.d.sync += turn.eq(splitter.following.client)
    for client, command in enumerate(splitter.commands):
        mine = splitter.issued & (splitter.following.client == client)
        more = waiting[client] & ~(mine & splitter.following.final)
        taken = command.valid & command.ready
        m.d.sync += waiting[client].eq((more | taken) & ~splitter.flush)
        model.claim(command.ready == ~more, f"takes_the_next_of_{client}")
    may = splitter.enable & ~splitter.flush & (~splitter.o.valid | splitter.o.ready)
    model.claim(splitter.issued == (may & waiting.any()), "issues_what_waits")
    model.claim(~splitter.issued | (splitter.following.client == ahead), "takes_turns")
    model.reachable(splitter.issued & ~splitter.following.final, "burst")
    return turn, waiting


def _turns(clients: int, model: Model) -> None:
    from lutcore.hw.memory.dma import Splitter

    splitter = model.unit(Splitter(32, clients=clients, burst=32, longest=2**24 - 1))
    turn, waiting = turns_contract(model, splitter)
    model.claim(model.probe("dut.latest", len(turn)) == turn, "knows_the_last")
    model.claim(model.probe("dut.waiting", clients) == waiting, "knows_who_waits")
    model.claim(turn < clients, "is_a_client")


def _regions(model: Model) -> None:
    """From the contract: a region is an aligned base and the bytes from there, within the bus."""
    from lutcore.hw.contract.csr import Region
    from lutcore.hw.memory.regions import RegionCheck

    unit = model.unit(RegionCheck())
    bases = model.drive(unit.bases, "bases")
    sizes = model.drive(unit.sizes, "sizes")
    fits = []
    for region in Region:
        base = bases[64 * region : 64 * region + 64]
        end = base + sizes[32 * region : 32 * region + 32]
        fits.append((base % 64 == 0) & (base < 1 << _ADDRESS) & (end <= 1 << _ADDRESS))
    misplaced = ~Cat(fits).all()
    model.claim(~model.started | (unit.misplaced == model.past(misplaced)), "misplaced")
    model.reachable(model.started & ~unit.misplaced, "all_fit")


def _read(bus_width: int, burst: int, model: Model) -> None:
    from lutcore.hw.memory.dma import ReadMaster

    clients = 2
    master = model.unit(ReadMaster(bus_width, clients, outstanding=2, burst=burst))
    regions = []
    for client in range(clients):
        regions.append(_command(model, master.commands[client], f"client_{client}", bus_width))
        model.drive(master.responses[client].ready, f"ready_{client}")
    model.drive(master.abort, "abort")
    bus = master.bus
    for name in ("arready", "rvalid", "rdata", "rresp", "rlast"):
        model.drive(getattr(bus, name), name)
    beat = _beat(bus_width)
    _requests_stay_inside(model, "dut", regions, bus_width, master.burst)
    rules = _burst_claims(model, bus.araddr, bus.arlen, bus.arburst, bus.arsize, beat)
    model.claim(~bus.arvalid | rules, "bursts_keep_the_rules")
    model.claim(~bus.arvalid | (bus.arlen < master.burst), "bursts_are_short")
    stop = bus.araddr + (bus.arlen + 1) * beat
    inside = Cat((bus.araddr >= base) & (stop <= end) for base, end in regions).any()
    model.claim(~bus.arvalid | inside, "reads_stay_inside")
    model.reachable(bus.arvalid & (bus.arlen == master.burst - 1), "full_burst")


def _write(bus_width: int, burst: int, model: Model) -> None:
    from lutcore.hw.memory.dma import WriteMaster

    m = model.m
    master = model.unit(WriteMaster(bus_width, outstanding=2, burst=burst))
    base, end = _command(model, master.command, "client", bus_width)
    model.drive(master.abort, "abort")
    model.drive(master.i.valid, "valid")
    model.drive(master.i.payload, "beat")
    bus = master.bus
    for name in ("awready", "wready", "bvalid", "bresp"):
        model.drive(getattr(bus, name), name)
    beat = _beat(bus_width)
    burst = master.burst
    _requests_stay_inside(model, "dut", [(base, end)], bus_width, burst)
    rules = _burst_claims(model, bus.awaddr, bus.awlen, bus.awburst, bus.awsize, beat)
    model.claim(~bus.awvalid | rules, "bursts_keep_the_rules")
    model.claim(~bus.awvalid | (bus.awlen < burst), "bursts_are_short")
    stop = bus.awaddr + (bus.awlen + 1) * beat
    inside = (bus.awaddr >= base) & (stop <= end)
    model.claim(~bus.awvalid | inside, "writes_stay_inside")

    # Lengths of the bursts whose beats are not all transferred, at most two, the older in front.
    bits = burst.bit_length() - 1
    owed = Signal(range(3), name="owed")
    front, behind, done = (Signal(bits, name=n) for n in ("front", "behind", "done"))
    issued = model.probe("dut.splitter.issued")
    length = model.probe("dut.splitter.following.length", bits)
    moved = bus.wvalid & bus.wready
    ended = moved & bus.wlast
    m.d.sync += owed.eq(owed + issued - ended)
    with m.If(ended):
        m.d.sync += [done.eq(0), front.eq(Mux(owed == 2, behind, length))]
    with m.Else():
        m.d.sync += done.eq(done + moved)
        with m.If(issued & (owed == 0)):
            m.d.sync += front.eq(length)
    with m.If(issued):
        m.d.sync += behind.eq(length)
    offered = model.past(issued)
    model.claim(
        ~offered | (bus.awvalid & (bus.awlen == model.past(length))), "lengths_are_those_offered"
    )
    active, left = model.probe("dut.active"), model.probe("dut.left", bits)
    whole = bus.wvalid & bus.wlast & (done == front)
    loading = active & (left + done + bus.wvalid == front) & ~(bus.wvalid & bus.wlast)
    none = ~active & ~bus.wvalid & (done == 0)
    one = (active & loading) | (~active & whole)
    two = whole & active & (left == behind)
    model.claim(Mux(owed == 0, none, Mux(owed == 1, one, (owed == 2) & two)), "beats_owed")
    model.claim(~bus.wvalid | (owed != 0), "no_beat_without_address")
    model.claim(~bus.wvalid | (bus.wlast == (done == front)), "beats_match_the_length")
    model.reachable(ended & (done == burst - 1), "full_burst")


def _locked(model: Model) -> None:
    """What the windows' bases and sizes come from does not change while the core is busy."""
    from lutcore.hw.contract.config import CoreConfig
    from lutcore.hw.contract.csr import CSRS
    from lutcore.hw.control.csr_file import CsrFile

    dut = model.unit(CsrFile(CoreConfig(rows=1, lanes=8, group=2, depth=1, bus_width=32)))
    for path, member, port in dut.signature.flatten(dut):
        if member.flow == wiring.In:
            name = "in_" + "_".join(map(str, path))
            model.m.d.comb += Value.cast(port).eq(model.free(name, Value.cast(port).shape()))
    settings = dut.settings.as_value()
    same = settings == model.past(settings)
    # As the supervisor does: the core becomes busy in the cycle after it was told to start.
    model.given(model.past(dut.busy | dut.start) | ~dut.busy)
    place = model.probe("dut.write_address", 12)
    waits = model.probe("dut.have_address") & model.probe("dut.have_data")
    control = place[2:] == CSRS["CONTROL"].offset >> 2
    model.claim(~dut.axi.bvalid | waits, "response_has_its_request")
    model.claim(~dut.start | (dut.axi.bvalid & control), "start_is_written")
    known = Cat(place[2:] == CSRS[name].offset >> 2 for name in dut.settings_names).any()
    written = dut.axi.bvalid & ~dut.axi.bresp[1] & known
    model.claim(~(written & (dut.busy | dut.start)), "busy_refuses")
    model.claim(~model.past(dut.busy) | same, "settings_are_locked")
    model.reachable(model.started & ~same, "settings_change")


_END = Net("dut.outside", "nothing is outside of a region", 0)
_HIGH = Net("dut.end", "the end of a request is another one")
_TURNS = Net("dut.latest", "client 1 is always served last", 1)
_PAGES = Net("dut.following", "a burst begins elsewhere")
_FINAL = Net("dut.left", "bursts of any number of beats")
_LAST = Net("dut.last", "WLAST in any beat")


def _properties() -> list[Property]:
    found = [
        Property(
            name="dma-settings-locked",
            unit="dma",
            claim="regions and other settings do not change while the core is busy",
            config="any writes",
            build=_locked,
            twin=Net("dut.bad", "no write is refused", 0),
            depth=1,
            twin_depth=12,
            cover_depth=6,
        ),
        Property(
            name="dma-regions",
            unit="dma",
            claim="no region is accepted that begins or ends where the bus has no address",
            config="all four regions, any base and size",
            build=_regions,
            twin=Net("dut.end_results", "the end of the results is another one"),
            depth=2,
            twin_depth=3,
            cover_depth=3,
        ),
    ]
    for bus_width, lengths, aligned, twin in (
        (32, "beats", 2, _END),
        (128, "beats", 2, _HIGH),
        (64, "words", 2, _END),
        (512, "words", 5, _END),
    ):
        found.append(
            Property(
                name=f"dma-window-{lengths}-{bus_width}",
                unit="dma",
                claim="a request in the region becomes the beats that hold it; others are refused",
                config=f"bus {bus_width}, any region",
                build=partial(_window, bus_width, lengths, aligned),
                twin=twin,
                depth=2,
                twin_depth=4,
                cover_depth=4,
                quick=bus_width == 64,
            )
        )
    for clients in (2, 3):
        found.append(
            Property(
                name=f"dma-turns-{clients}",
                unit="dma",
                claim="clients of a master take turns, burst by burst",
                config=f"{clients} clients, any requests",
                build=partial(_turns, clients),
                twin=_TURNS,
                depth=1,
                twin_depth=6,
                cover_depth=4,
            )
        )
    for bus_width, burst, twin in ((32, 32, _PAGES), (128, 256, _PAGES)):
        found.append(
            Property(
                name=f"dma-read-{bus_width}",
                unit="dma",
                claim="read bursts: within a region, INCR, at most 256 beats, none across 4 KiB",
                config=f"bus {bus_width}, bursts of {burst}, 2 clients",
                build=partial(_read, bus_width, burst),
                twin=twin,
                depth=1,
                twin_depth=6,
            )
        )
    for bus_width, burst, twin in ((64, 4, _LAST), (32, 32, _FINAL)):
        found.append(
            Property(
                name=f"dma-write-{bus_width}",
                unit="dma",
                claim="write bursts: the same, and as many beats of W as AWLEN says, then WLAST",
                config=f"bus {bus_width}, bursts of {burst}",
                build=partial(_write, bus_width, burst),
                twin=twin,
                depth=1,
                twin_depth=10,
            )
        )
    return found


PROPERTIES = _properties()
