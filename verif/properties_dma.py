"""DMA stays within the region that the host opened, and keeps to the rules of AXI4 bursts."""

from functools import partial
from typing import Any

from amaranth.hdl import Cat, Const, Mux, Signal, Value
from amaranth.lib import data, wiring

from lutcore.verif.prove_model import Break, Model, Property

__all__ = ["PROPERTIES"]

_ADDRESS = 40
_PAGE = 4096


def _beat(bus_width: int) -> int:
    return bus_width // 8


def _window(bus_width: int, lengths: str, aligned: int, model: Model) -> None:
    """A window on any region, which does not change, with any requests."""
    from lutcore.hw.dma import Window

    window: Any = model.unit(Window(bus_width, lengths=lengths, aligned=aligned))
    base = model.constant("base", _ADDRESS)
    size = model.constant("size", 32)
    model.given((base[:6] == 0) & (base + size <= 1 << _ADDRESS))
    model.m.d.comb += [window.base.eq(base), window.size.eq(size)]
    model.drive(window.i.valid, "valid")
    model.drive(window.i.payload, "request")
    model.drive(window.o.ready, "ready")
    model.given(window.i.payload.length != 0)
    if lengths == "words":
        model.given(window.i.payload.offset[:aligned] == 0)
    _window_claims(model, window, base, size)
    model.reachable(window.o.valid, "command")
    model.reachable(window.error, "error")


def _window_claims(model: Model, window: Any, base: Value, size: Value) -> None:
    """A request inside the region is passed on as the beats that hold it; others are refused."""
    m = model.m
    beat = _beat(window.bus_width)
    offset, length = Signal(_ADDRESS, name="offset"), Signal(24, name="length")
    taken = window.i.valid & window.i.ready
    with m.If(taken):
        m.d.sync += [offset.eq(window.i.payload.offset), length.eq(window.i.payload.length)]
    command = window.o.payload
    whole = window.lengths == "beats"
    unit = beat if whole else 4
    size_bytes = length * unit
    inside = offset + size_bytes <= size
    if whole:
        inside = inside & (offset % beat == 0)
    first = offset // beat
    last = (offset + size_bytes - 1) // beat
    same = (command.address == base + first * beat) & (command.beats == last - first + 1)
    # Between requests a window is either ready, or checks one, or offers its command.
    model.claim(window.i.ready != window.busy, "is_idle_or_busy")
    checks = window.busy & ~window.o.valid
    held = model.probe("dut.end", max(32 - (unit.bit_length() - 1), 24) + 1)
    outside = model.probe("dut.outside")
    expected_end = (offset[:32] // unit) + length
    odd = (offset[32:] != 0) | ((offset % beat != 0) if whole else Const(0))
    model.claim(~checks | (held == expected_end), "adds_the_length")
    model.claim(~checks | ~inside | same, "adds_the_base")
    model.claim(~checks | (outside == odd), "sees_outside")
    model.claim(~window.o.valid | (inside & same), "passes_what_is_inside")
    model.claim(~(window.o.valid & ~window.busy), "is_busy")
    model.claim(~checks | (window.error == ~inside), "refuses_what_is_outside")
    model.claim(checks | ~window.error, "refuses_once")
    model.claim(length.any() | ~window.busy, "has_a_length")


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


def _read(bus_width: int, burst: int, model: Model) -> None:
    from lutcore.hw.dma import ReadMaster

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
    from lutcore.hw.dma import WriteMaster

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
    from lutcore.hw.config import CoreConfig
    from lutcore.hw.csr import CSRS
    from lutcore.hw.csr_file import CsrFile

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


_DMA = "lutcore.hw.dma"
_END = Break(_DMA, "end > self.size[unit:]", "end > self.size[unit:] + 1", "the end off by one")
_HIGH = Break(
    _DMA,
    "offset[REGION_BITS:].any()",
    "offset[REGION_BITS + 1 :].any()",
    "a bit of the offset ignored",
)
_ODD = Break(_DMA, "length + skipped", "length", "words before the first are forgotten")
_PAGES = Break(_DMA, "current.low, current.page", "current.low, current.page + 1", "the next page")
_CROSS = Break(_DMA, "last[block - beat :])", "last[block - beat :] + 1)", "a block too many")
_FINAL = Break(
    _DMA, "low + command.payload.beats - 1", "low + command.payload.beats", "a beat more"
)
_LAST = Break(_DMA, " last.eq(left == 0)", " last.eq(left == 1)", "WLAST a beat early")


def _properties() -> list[Property]:
    found = [
        Property(
            name="dma-settings-locked",
            unit="dma",
            claim="regions and other settings do not change while the core is busy",
            config="any writes",
            build=_locked,
            twin=Break(
                "lutcore.hw.csr_file", "axi.bvalid & ~axi.bresp[1]", "axi.bvalid", "no lock"
            ),
            depth=1,
            twin_depth=12,
            cover_depth=6,
        )
    ]
    for bus_width, lengths, aligned, twin in (
        (32, "beats", 2, _END),
        (128, "beats", 2, _HIGH),
        (64, "words", 2, _END),
        (512, "words", 5, _ODD),
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
    for bus_width, burst, twin in ((32, 32, _PAGES), (128, 256, _CROSS)):
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
