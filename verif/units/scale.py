"""The scale unit: exact sums of all kinds of layers, under pressure on every side."""

import cocotb

from lutcore.hw.compute.scale import ScaleUnit
from lutcore.verif.kit import env
from lutcore.verif.oracles.scale import Job, Layer, draw_job, draw_work
from lutcore.verif.units.buffers import BufferModel
from lutcore.verif.units.streams import UnitBench, draw_pressure

_JOB = "scale: job"


class ScaleBench(UnitBench):
    """TABLE, ARRAY, scale buffer and FINAL around SCALE."""

    def __init__(self, dut, name: str) -> None:
        self.config = env.settings().config
        component = ScaleUnit(self.config)
        super().__init__(dut, component, name, "scale")
        self.lines_per_word, self.line_bits = component.lines_per_word, component.line_bits
        self.stream("acc", "acc_valid", "acc_pop", "acc_sums")
        self.slot = 0

    async def restart(self) -> None:
        """Reset: sums begin in slot 0."""
        await super().restart()
        self.slot = 0

    def draw_layer(self, number: int) -> Layer:
        """A layer; numbers from 0 upwards go through all kinds."""
        planes = self.random.choice([1, self.config.planes])
        per_plane, offset, wide = (bool(number >> bit & 1) for bit in range(3))
        return Layer(planes, per_plane, offset, wide)

    def load(self, job: Job) -> None:
        """Take a job on."""
        self.job, self.work = job, draw_work(self.random, job)
        fillings = self.work.fillings(self.lines_per_word, self.line_bits)
        self.buffer = BufferModel(self, "s", fillings)
        # At no pressure a sum comes again as soon as the unit dares to.
        calm = self.random.random() < 0.3
        names = ("runs", "array", "final")
        self.pressures = {name: 0.0 if calm else draw_pressure(self.random) for name in names}
        self.error = False

    async def runs(self) -> None:
        """Start, and offer the runs."""
        layer = self.job.layer
        names = ("planes", "per_plane", "offset", "wide")
        self["layer"].set({name: int(getattr(layer, name)) for name in names})
        self["start"].set(1)
        await self.edge
        self["start"].set(0)
        for run in self.work.runs:
            payload = {"tag": run.tag, "sums": run.asums}
            await self.stream("i").put(payload, self.pressures["runs"])

    async def array(self) -> None:
        """Offer the sums of the array."""
        for run in self.work.runs:
            for sums in run.accumulators:
                await self.stream("acc").put([int(v) for v in sums], self.pressures["array"])

    async def final(self) -> None:
        """Take finished slots, and read all of their sums."""
        pressure = self.pressures["final"]
        if self.random.random() < 0.3:
            await self.cycles(400)  # both slots are full by then
        for number, (tag, totals) in enumerate(zip(self.work.tags, self.work.sums, strict=True)):
            got = await self.stream("o").get(pressure)
            for name, value in ({"slot": self.slot} | tag).items():
                env.expect(f"scale: {name} of the tag", got[name], value, index=f"slot {number}")
            self.slot ^= 1
            self["sum_slot"].set(got["slot"])
            for word in sorted({word for word, _ in totals}):
                await self.pause(pressure / 2)
                self["sum_word"].set(word)
                self["sum_enable"].set(1)
                await self.edge
                self["sum_enable"].set(0)
                await self.edge
                wanted = [totals[word, lane] for lane in range(self.config.scale_lanes)]
                where = f"slot {number}, word {word}, lane "
                for lane, (value, total) in enumerate(
                    zip(self["sum_data"].get(), wanted, strict=True)
                ):
                    env.expect("scale: sum", value, total, index=f"{where}{lane}")
            self["freed"].set(1)
            await self.edge
            self["freed"].set(0)

    async def watch(self) -> None:
        """Remember an error."""
        while True:
            await self.edge
            self.error = self.error or bool(self["operand_error"].bits())

    def processes(self) -> list:
        """What has to come to its end."""
        return [self.runs, self.array, self.final]

    async def execute(self) -> None:
        """Do the job and compare everything."""
        job = self.job
        visits = sum(len(words) for words in self.buffer.fillings) * self.lines_per_word
        limit = 4000 + 60 * self.config.rows * (1 + job.row_tiles) * visits
        await self.run(self.processes(), [self.buffer.run, self.watch], limit=limit)
        self.buffer.verdict()
        env.expect("scale: operand_error", self.error, False)
        env.expect("scale: active at the end", self["active"].bits(), 0)
        low = -(1 << self.config.activation_bits - 1) * job.columns
        env.cover("scale: layer", job.layer.kind)
        for name, hit in (
            ("several tiles", max(job.tiles) > 1),
            ("row tiles", job.row_tiles > 1),
            ("blocks of K", len(job.blocks) > 1),
            ("several slots", len(job.tiles) > 1),
            ("ragged rows", job.last_rows < self.config.rows),
            ("lowest values", any(low in run.asums for run in self.work.runs)),
        ):
            if hit:
                env.cover(_JOB, name)


@cocotb.test()
async def layers(dut):
    """Every sum of random jobs, for every kind of layer, one after the other."""
    bench = ScaleBench(dut, "layers")
    await bench.restart()
    for number in range(8 * env.settings().effort):
        bench.load(draw_job(bench.random, bench.config, bench.draw_layer(number)))
        await bench.execute()


@cocotb.test()
async def reset_in_flight(dut):
    """After a reset at any time, a job gives what it always gives."""
    bench = ScaleBench(dut, "reset_in_flight")
    await bench.restart()
    for _ in range(2 * env.settings().effort):
        kinds = bench.random.sample(range(8), 2)
        bench.load(draw_job(bench.random, bench.config, bench.draw_layer(kinds[0])))
        await bench.interrupt(bench.processes(), [bench.buffer.run, bench.watch], within=150)
        bench.load(draw_job(bench.random, bench.config, bench.draw_layer(kinds[1])))
        await bench.execute()


@cocotb.test()
async def too_many_row_tiles(dut):
    """Sums beyond the buffer are an error, and not one within is overwritten before it."""
    bench = ScaleBench(dut, "too_many_row_tiles")
    config = bench.config
    words = config.chunks * config.rows
    # One tile would take many row tiles to fill a large buffer.
    tiles = config.tiles if config.sum_words // words > 40 else 1
    row_tiles = config.sum_words // (words * tiles) + 1
    await bench.restart()
    layer = Layer(1)
    if row_tiles * tiles * words * 2 > 6000:
        return
    bench.load(Job(config, layer, (tiles,), row_tiles, (1,), config.rows, 8))

    async def until_error() -> None:
        while not bench.error:
            await bench.edge

    processes = [bench.runs, bench.array, bench.buffer.run, bench.watch]
    await bench.run([until_error], processes, limit=20_000)
    env.cover(_JOB, "operand error")
