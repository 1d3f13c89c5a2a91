"""Bus masters: what turns requests of any length into AXI4 bursts.

Requests pass a :class:`Window`, which checks them against the region that the host opened, and go
to the one :class:`ReadMaster` or :class:`WriteMaster` of the core::

    units ─ offset, length ─► Window ─ address, beats ─► ReadMaster  ─► AR … R ─► units
                                 └─► error               WriteMaster ─► AW, W … B

Bursts end where ``burst`` beats from an aligned address end, so that the first and the last of a
request may be shorter and none straddles 4 KiB.
"""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lutcore.hw.contract.csr import ADDRESS_WIDTH, REGION_ALIGNMENT
from lutcore.hw.memory.axi import BOUNDARY, BURST_INCR, CACHE_BUFFERABLE, Axi4Read, Axi4Write
from lutcore.hw.memory.queue import Queue

__all__ = [
    "LONGEST",
    "OFFSET_BITS",
    "REGION_BITS",
    "ReadMaster",
    "Splitter",
    "Window",
    "WriteMaster",
    "command_layout",
    "request_layout",
]

#: The longest request, in beats or words, where nothing shorter is known.
LONGEST = 2**24 - 1
#: Bits of an offset within a region, and of an offset that may lie outside of it.
REGION_BITS = 32
OFFSET_BITS = REGION_BITS + 2
_WORD_SHIFT = 2  # bits of an address within a word of 32 bits


def request_layout(longest: int = LONGEST) -> data.StructLayout:
    """A unit's request: byte offset within its region; ``length`` in beats or words, >= 1.

    Offsets with a bit above `REGION_BITS` are outside of every region.
    """
    return data.StructLayout({"offset": OFFSET_BITS, "length": range(longest + 1)})


def command_layout(longest: int = LONGEST) -> data.StructLayout:
    """A request to a master: byte address of the first beat, a multiple of a beat; beats, >= 1."""
    return data.StructLayout({"address": ADDRESS_WIDTH, "beats": range(longest + 1)})


def _log2(value: int) -> int:
    return value.bit_length() - 1


class Window(wiring.Component):
    """Places requests in a region of memory and refuses those that leave it.

    One request in three cycles.

    Parameters
    ----------
    bus_width
        Bits of a beat.
    lengths
        ``"beats"``: requests of whole beats at aligned offsets, others are refused;
        ``"words"``: any words of 32 bits, for which the beats that hold them are requested.
    aligned
        Lowest bits of the offsets of words that are zero, two at least.
    longest
        The largest length of a request.

    Members
    -------
    base, size
        The region: 64-byte aligned address, bytes. Constant while requests are under way.
    i
        Requests of :func:`request_layout`.
    o
        The same as :func:`command_layout`, of ``most_beats`` at most.
    error
        Pulse: a request is outside the region (or not aligned) and was dropped.
    busy
        A request is being checked or waits on ``o``.
    """

    def __init__(
        self,
        bus_width: int,
        *,
        lengths: str = "beats",
        aligned: int = _WORD_SHIFT,
        longest: int = LONGEST,
    ) -> None:
        if lengths not in ("beats", "words"):
            raise TypeError(f"Lengths must be 'beats' or 'words', not {lengths!r}")
        self.bus_width = bus_width
        self.lengths, self.aligned = lengths, aligned
        self.longest = longest
        if aligned < _WORD_SHIFT:
            raise TypeError(
                f"Offsets of words have at least {_WORD_SHIFT} bits of 0, not {aligned}"
            )
        # Bits of a word's place within a beat, those of them that are zero, and words of a beat.
        self.place_bits = _log2(bus_width // 32)
        self.even_bits = min(aligned - _WORD_SHIFT, self.place_bits)
        words = 1 << self.place_bits
        # Where the last beat ends if words begin as far behind the start of one as they may.
        reach = longest + words - (1 << self.even_bits) + words - 1
        self.most_beats = longest if lengths == "beats" else reach // words
        super().__init__(
            {
                "base": In(ADDRESS_WIDTH),
                "size": In(REGION_BITS),
                "i": In(stream.Signature(request_layout(longest))),
                "o": Out(stream.Signature(command_layout(self.most_beats))),
                "error": Out(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        shift = _log2(self.bus_width // 8)
        offset, length = self.i.payload.offset, self.i.payload.length
        whole = self.lengths == "beats"
        # The end is counted in the unit of the length.
        unit = shift if whole else _WORD_SHIFT
        end = Signal(max(REGION_BITS - unit, len(length)) + 1, reset_less=True)
        outside = Signal(reset_less=True)
        place = Signal(ADDRESS_WIDTH - shift, reset_less=True)
        beats = Signal(range(self.most_beats + 1), reset_less=True)
        m.d.comb += [
            self.o.payload.address.eq(Cat(Const(0, shift), place)),
            self.o.payload.beats.eq(beats),
        ]
        below = REGION_ALIGNMENT - shift  # bits that the region's base does not have

        refused = Signal()
        m.d.comb += [
            refused.eq(outside | (end > self.size[unit:])),
            self.error.eq(self.busy & refused),
            self.busy.eq(~self.i.ready),
        ]

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [
                    place.eq(
                        Cat(
                            offset[shift:][:below],
                            self.base[REGION_ALIGNMENT:] + offset[REGION_ALIGNMENT:REGION_BITS],
                        )
                    ),
                    end.eq(offset[unit:REGION_BITS] + length),
                    outside.eq(offset[REGION_BITS:].any() | (offset[:shift].any() if whole else 0)),
                ]
                if whole:
                    m.d.sync += beats.eq(length)
                else:
                    skipped = Cat(
                        Const(0, self.even_bits), offset[_WORD_SHIFT:shift][self.even_bits :]
                    )
                    reach = length + skipped + ((1 << self.place_bits) - 1)
                    m.d.sync += beats.eq(reach >> self.place_bits)
                with m.If(self.i.valid):
                    m.next = "CHECK"
            with m.State("CHECK"):
                with m.If(refused):
                    m.next = "IDLE"
                with m.Else():
                    m.next = "ISSUE"
            with m.State("ISSUE"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "IDLE"
        return m


class Splitter(wiring.Component):
    """Cuts the requests of several clients into bursts, one per cycle, clients in turn.

    Members
    -------
    commands
        One stream of :func:`command_layout` for each client.
    enable
        A burst may be issued in this cycle.
    flush
        Drop all requests.
    issued, following
        Strobe: a burst enters the register behind ``o``; which one it is.
    o
        Bursts: address, ``length`` (beats - 1), ``client``, ``final`` (the request's last).
    busy
        A request has bursts to come.
    """

    def __init__(self, bus_width: int, *, clients: int, burst: int, longest: int) -> None:
        self.bus_width, self.clients, self.burst = bus_width, clients, burst
        self.longest = longest
        layout = data.StructLayout(
            {
                "address": ADDRESS_WIDTH,
                "length": _log2(burst),
                "client": range(max(2, clients)),
                "final": 1,
            }
        )
        super().__init__(
            {
                "commands": In(stream.Signature(command_layout(longest))).array(clients),
                "enable": In(1),
                "flush": In(1),
                "issued": Out(1),
                "following": Out(layout),
                "o": Out(stream.Signature(layout)),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        beat = _log2(self.bus_width // 8)
        block = beat + _log2(self.burst)  # bits of an address below which bursts do not carry
        # A request: number of its block of `burst` beats, position of the first beat there, and
        # of the last beat as seen from the start of that block.
        furthest = self.burst - 1 + self.longest - 1
        request = data.StructLayout(
            {
                "page": ADDRESS_WIDTH - block,
                "low": block - beat,
                "final_low": block - beat,
                "blocks": range((furthest >> (block - beat)) + 1),
            }
        )
        requests = Array(
            Signal(request, name=f"request_{n}", reset_less=True) for n in range(self.clients)
        )
        waiting = Signal(self.clients)
        chosen = Signal(range(max(2, self.clients)))
        latest = Signal.like(chosen)
        current = Signal(request)

        # The client after the one that came last goes first.
        with m.Switch(latest):
            for last in range(self.clients):
                with m.Case(last):
                    for distance in reversed(range(1, self.clients + 1)):
                        candidate = (last + distance) % self.clients
                        with m.If(waiting[candidate]):
                            m.d.comb += chosen.eq(candidate)

        # Only what says whether something is valid has a reset, here and below.
        following, payload = self.following, self.o.payload
        held = {
            name: Signal(width, name=f"held_{name}", reset_less=True)
            for name, width in (
                ("place", ADDRESS_WIDTH - beat),
                ("length", len(payload.length)),
                ("client", len(payload.client)),
                ("final", 1),
            )
        }
        m.d.comb += [
            payload.address.eq(Cat(Const(0, beat), held["place"])),
            *(payload[name].eq(held[name]) for name in ("length", "client", "final")),
        ]
        final_low = Mux(following.final, current.final_low, self.burst - 1)
        m.d.comb += [
            current.eq(requests[chosen]),
            following.address.eq(Cat(Const(0, beat), current.low, current.page)),
            following.final.eq(current.blocks == 0),
            following.length.eq(final_low - current.low),
            following.client.eq(chosen),
            self.issued.eq(
                self.enable & ~self.flush & waiting.any() & (~self.o.valid | self.o.ready)
            ),
            self.busy.eq(waiting.any()),
        ]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(self.issued):
            m.d.sync += [
                self.o.valid.eq(1),
                latest.eq(chosen),
                held["place"].eq(following.address[beat:]),
                *(held[name].eq(following[name]) for name in ("length", "client", "final")),
            ]

        for client in range(self.clients):
            command = self.commands[client]
            mine = Signal(name=f"issued_{client}")
            m.d.comb += [
                mine.eq(self.issued & (chosen == client)),
                command.ready.eq(~waiting[client] | (mine & following.final)),
            ]
            address = command.payload.address
            low = address[beat:block]
            last = Signal(range(furthest + 1), name=f"last_{client}")
            m.d.comb += last.eq(low + command.payload.beats - 1)
            with m.If(command.ready):
                m.d.sync += [
                    waiting[client].eq(command.valid),
                    requests[client].page.eq(address[block:]),
                    requests[client].low.eq(low),
                    requests[client].final_low.eq(last[: block - beat]),
                    requests[client].blocks.eq(last[block - beat :]),
                ]
            with m.Elif(mine):
                m.d.sync += [
                    requests[client].page.eq(current.page + 1),
                    requests[client].low.eq(0),
                    requests[client].blocks.eq(current.blocks - 1),
                ]
            with m.If(self.flush):
                m.d.sync += waiting[client].eq(0)
        return m


def _check_master(bus_width: int, outstanding: int, burst: int) -> int:
    """The burst length, cut to what AXI4 allows on this bus."""
    if not isinstance(burst, int) or burst < 2 or burst & (burst - 1):
        raise TypeError(f"Burst must be a power of two of at least 2 beats, not {burst!r}")
    if not isinstance(outstanding, int) or outstanding < 1:
        raise TypeError(f"Outstanding must be a positive number of bursts, not {outstanding!r}")
    return min(burst, 256, BOUNDARY // (bus_width // 8))


class ReadMaster(wiring.Component):
    """Reads memory for several clients over the read channels of one AXI4 master.

    Bursts of different clients take turns, so that a long request delays another client by one
    burst only; each client gets its beats in order. A client must be able to take what it asked
    for without waiting for another client's data, since all share one channel. One address and
    one beat per cycle; two cycles from request to ARVALID, one from R to the client.

    Parameters
    ----------
    bus_width
        Bits of the data bus.
    clients
        Number of clients.
    outstanding
        Bursts under way at most.
    burst
        Beats per burst at most, a power of two; lowered to 4 KiB where that is less.
    longest
        Beats of a request at most.

    Members
    -------
    bus
        AXI4 read channels.
    commands
        For each client, requests of :func:`command_layout`.
    responses
        For each client, the beats: ``data`` and ``last`` (of the request).
    abort
        Level: issue no further burst, drop requests, swallow what is outstanding.
    idle
        Nothing is outstanding on the bus, and no request waits.
    owed, moved
        It is the memory's turn: to take an address, or to send a beat; one of the two was
        transferred.
    beat
        Strobe: a beat was transferred.
    error, error_client
        Strobe: a beat came with SLVERR or DECERR; whose it was. Its data are delivered. Without
        the strobe, whose burst was the next to be answered.
    """

    def __init__(
        self,
        bus_width: int,
        clients: int,
        *,
        outstanding: int = 8,
        burst: int = 32,
        longest: int = LONGEST,
    ) -> None:
        if not isinstance(clients, int) or clients < 1:
            raise TypeError(f"Clients must be a positive integer, not {clients!r}")
        self.burst = _check_master(bus_width, outstanding, burst)
        self.bus_width, self.clients, self.outstanding = bus_width, clients, outstanding
        self.longest = longest
        response = data.StructLayout({"data": bus_width, "last": 1})
        super().__init__(
            {
                "bus": Out(Axi4Read(bus_width)),
                "commands": In(stream.Signature(command_layout(longest))).array(clients),
                "responses": Out(stream.Signature(response)).array(clients),
                "abort": In(1),
                "idle": Out(1),
                "owed": Out(1),
                "moved": Out(1),
                "beat": Out(1),
                "error": Out(1),
                "error_client": Out(range(max(2, clients))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bus = self.bus
        m.submodules.splitter = splitter = Splitter(
            self.bus_width, clients=self.clients, burst=self.burst, longest=self.longest
        )
        for outer, inner in zip(self.commands, splitter.commands, strict=True):
            wiring.connect(m, wiring.flipped(outer), inner)

        # Whose bursts are under way, in order; an entry is made before ARVALID rises.
        owner = data.StructLayout({"client": splitter.following.client.shape(), "final": 1})
        m.submodules.owners = owners = Queue(width=owner.size, depth=self.outstanding)
        made = data.View(owner, owners.w_data)
        head = data.View(owner, owners.r_data)
        m.d.comb += [
            splitter.enable.eq(owners.w_rdy),
            splitter.flush.eq(self.abort),
            owners.w_en.eq(splitter.issued),
            made.client.eq(splitter.following.client),
            made.final.eq(splitter.following.final),
            bus.araddr.eq(splitter.o.payload.address),
            bus.arlen.eq(splitter.o.payload.length),
            bus.arsize.eq(_log2(self.bus_width // 8)),
            bus.arburst.eq(BURST_INCR),
            bus.arcache.eq(CACHE_BUFFERABLE),
            bus.arvalid.eq(splitter.o.valid),
            splitter.o.ready.eq(bus.arready),
        ]

        # Two registers between the bus and the clients: the second takes the beat that is under way
        # when a client stops, so that no client's answer lies in the path of RREADY.
        beat_layout = data.StructLayout({"data": self.bus_width, "last": 1})
        beat = Signal(beat_layout)
        mine = Signal(self.clients)
        held = Signal(self.clients)
        spare = Signal(self.clients)
        held_beat = Signal(beat_layout, reset_less=True)
        spare_beat = Signal(beat_layout, reset_less=True)
        room = Signal()
        for client, response in enumerate(self.responses):
            m.d.comb += [
                response.valid.eq(held[client]),
                response.payload.eq(held_beat),
                mine[client].eq(self.beat & (head.client == client)),
            ]
        m.d.comb += [
            beat.data.eq(bus.rdata),
            beat.last.eq(bus.rlast & head.final),
            room.eq(
                (held & Cat(response.ready for response in self.responses)).any() | ~held.any()
            ),
            bus.rready.eq(owners.r_rdy & ~spare.any()),
            self.beat.eq(bus.rvalid & bus.rready),
            owners.r_en.eq(self.beat & bus.rlast),
            self.idle.eq(~owners.r_rdy & ~splitter.busy),
            # A beat that is offered waits for the core.
            self.owed.eq(owners.r_rdy & ~bus.rvalid),
            self.moved.eq(self.beat | (bus.arvalid & bus.arready)),
        ]
        with m.If(~spare.any()):
            m.d.sync += spare_beat.eq(beat)
        with m.If(room):
            m.d.sync += [
                held.eq(Mux(spare.any(), spare, mine)),
                held_beat.eq(Mux(spare.any(), spare_beat, beat)),
                spare.eq(0),
            ]
        with m.Elif(~spare.any()):
            m.d.sync += spare.eq(mine)
        with m.If(self.abort):
            m.d.sync += [held.eq(0), spare.eq(0)]
        error = Signal(reset_less=True)
        error_client = Signal.like(self.error_client, reset_less=True)
        m.d.sync += [error.eq(self.beat & bus.rresp[1]), error_client.eq(head.client)]
        m.d.comb += [self.error.eq(error), self.error_client.eq(error_client)]
        return m


class WriteMaster(wiring.Component):
    """Writes memory over the write channels of one AXI4 master.

    The address of a burst is issued when its first beat is there. One beat per cycle within a
    burst, and one cycle between bursts.

    Parameters
    ----------
    bus_width
        Bits of the data bus.
    outstanding
        Bursts without their response at most.
    burst
        Beats per burst at most, a power of two; lowered to 4 KiB where that is less.
    longest
        Beats of a request at most.

    Members
    -------
    bus
        AXI4 write channels.
    command
        Requests of :func:`command_layout`.
    i
        Their beats: ``data`` and ``strobe`` (a bit per byte).
    abort
        Level: issue no further burst, drop requests; bursts that were issued are completed with
        beats that write nothing.
    idle
        Every burst that was issued has its response. A request that waits for data does not count:
        nothing is under way for it on the bus.
    owed, moved
        It is the memory's turn: to take an address or a beat, or to answer a burst that it has
        whole; one of the three was transferred.
    beat
        Strobe: a beat was transferred.
    error
        Strobe: a response was SLVERR or DECERR.
    """

    def __init__(
        self, bus_width: int, *, outstanding: int = 8, burst: int = 32, longest: int = LONGEST
    ) -> None:
        self.burst = _check_master(bus_width, outstanding, burst)
        self.bus_width, self.outstanding, self.longest = bus_width, outstanding, longest
        beat = data.StructLayout({"data": bus_width, "strobe": bus_width // 8})
        super().__init__(
            {
                "bus": Out(Axi4Write(bus_width)),
                "command": In(stream.Signature(command_layout(longest))),
                "i": In(stream.Signature(beat)),
                "abort": In(1),
                "idle": Out(1),
                "owed": Out(1),
                "moved": Out(1),
                "beat": Out(1),
                "error": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bus = self.bus
        m.submodules.splitter = splitter = Splitter(
            self.bus_width, clients=1, burst=self.burst, longest=self.longest
        )
        wiring.connect(m, wiring.flipped(self.command), splitter.commands[0])

        active = Signal()  # beats of an issued burst are still to come
        left = Signal(range(self.burst), reset_less=True)  # behind the next one
        unanswered = Signal(range(self.outstanding + 1))
        answered = Signal()
        free = Signal()
        load = Signal()
        beat = Signal.like(self.i.payload, reset_less=True)
        last = Signal(reset_less=True)
        error = Signal(reset_less=True)
        m.d.comb += [
            bus.wdata.eq(beat.data),
            bus.wstrb.eq(beat.strobe),
            bus.wlast.eq(last),
            self.error.eq(error),
            splitter.enable.eq(self.i.valid & ~active & (unanswered != self.outstanding)),
            splitter.flush.eq(self.abort),
            bus.awaddr.eq(splitter.o.payload.address),
            bus.awlen.eq(splitter.o.payload.length),
            bus.awsize.eq(_log2(self.bus_width // 8)),
            bus.awburst.eq(BURST_INCR),
            bus.awcache.eq(CACHE_BUFFERABLE),
            bus.awvalid.eq(splitter.o.valid),
            splitter.o.ready.eq(bus.awready),
            # A register before the bus: what has been offered there must not change on `abort`.
            free.eq(~bus.wvalid | bus.wready),
            load.eq(active & free & (self.i.valid | self.abort)),
            # On abort what is taken is lost, as all that the units have.
            self.i.ready.eq(active & free),
            bus.bready.eq(unanswered != 0),
            answered.eq(bus.bvalid & bus.bready),
            self.beat.eq(bus.wvalid & bus.wready),
            self.idle.eq(unanswered == 0),
            # Beats of an issued burst may be long in coming: then it is the core's turn.
            self.owed.eq(bus.awvalid | bus.wvalid | ((unanswered != 0) & ~active)),
            self.moved.eq((bus.awvalid & bus.awready) | self.beat | answered),
        ]
        with m.If(bus.wready):
            m.d.sync += bus.wvalid.eq(0)
        with m.If(load):
            m.d.sync += [
                bus.wvalid.eq(1),
                beat.data.eq(self.i.payload.data),
                beat.strobe.eq(Mux(self.abort, 0, self.i.payload.strobe)),
                last.eq(left == 0),
                left.eq(left - 1),
                active.eq(left != 0),
            ]
        with m.If(splitter.issued):
            m.d.sync += [active.eq(1), left.eq(splitter.following.length)]
        m.d.sync += [
            unanswered.eq(unanswered + splitter.issued - answered),
            error.eq(answered & bus.bresp[1]),
        ]
        return m
