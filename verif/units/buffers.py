"""Stands for a buffer of two slots and its loader, on the reading side of a unit."""

from collections.abc import Callable

from lutcore.verif.kit import env
from lutcore.verif.units.streams import UnitBench, draw_pressure

__all__ = ["BufferModel"]


class BufferModel:
    """Fills slots as they become free, word by word, and answers the unit's reads.

    What is not written yet reads as noise. What was read stays until the next read.

    Parameters
    ----------
    bench
        The unit, with a port ``buffer``.
    token
        Name of the port of its tokens.
    fillings
        For each time that a slot is filled, its words, no more than a slot holds.

    Attributes
    ----------
    pressure
        Share of cycles in which no word is written.
    gate
        Nothing is written while this is false.
    taken, given
        Slots that the unit has taken and given back.
    """

    def __init__(self, bench: UnitBench, token: str, fillings: list[list[int]]) -> None:
        # The unit's addresses would wrap, and its sums be wrong without any fault of its own.
        room, most = 1 << bench["buffer__word"].width, max(map(len, fillings), default=0)
        if most > room:
            raise ValueError(f"{bench.unit}: {most} words are drawn for a slot of {room}")
        self.bench, self.token, self.fillings = bench, token, fillings
        self.pressure = draw_pressure(bench.random)
        self.gate: Callable[[], bool] = lambda: True
        self.taken = self.given = 0

    async def run(self) -> None:
        """Serve until cancelled."""
        bench, source = self.bench, self.bench.random
        port = {
            name: bench[f"buffer__{name}"]
            for name in ("writer_slot", "writer_count", "enable", "slot", "word", "data")
        }
        available, take, give = (
            bench[f"{self.token}__{name}"] for name in ("available", "take", "give")
        )
        width = port["data"].width
        memory: dict[tuple[int, int], int] = {}
        assigned = written = 0
        while True:
            done = assigned == 0 or written == len(self.fillings[assigned - 1])
            if done and assigned < len(self.fillings) and assigned - self.given < 2:
                assigned, written = assigned + 1, 0
            elif not done and self.gate() and source.random() >= self.pressure:
                memory[(assigned - 1) % 2, written] = self.fillings[assigned - 1][written]
                written += 1
            newest = (assigned - 1) % 2
            port["writer_slot"].set(newest)
            port["writer_count"].set(written)
            available.set(assigned > self.taken)
            await bench.edge
            takes, gives = take.bits(), give.bits()
            if takes:
                left = assigned > self.taken
                env.expect(f"{bench.unit}: {self.token}.take with a full slot", left, True)
            self.taken += takes
            self.given += gives
            env.expect(f"{bench.unit}: {self.token} slots given back beyond those taken",
                       max(0, self.given - self.taken), 0)  # fmt: skip
            place = port["slot"].bits(), port["word"].bits()
            known = place in memory and not (place[0] == newest and place[1] >= written)
            if port["enable"].bits():
                port["data"].set(memory[place] if known else source.getrandbits(width))

    def verdict(self) -> None:
        """Every slot was taken and given back."""
        name = f"{self.bench.unit}: {self.token} slots"
        env.expect(f"{name} taken", self.taken, len(self.fillings))
        env.expect(f"{name} given back", self.given, len(self.fillings))
