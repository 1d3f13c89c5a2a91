"""The machine that programs run on, without its numbers: loops, tokens, slots, sizes, addresses.

What a program does does not depend on the data, so this is enough to tell whether it is legal
(`lutcore.sim.machine.legal`). The instruction-set simulator is this machine with numbers added.

The units run as coroutines that meet at token counters. They are a Kahn network: as long as slots
are used in turn, of which `Clocks` make sure, the order in which they move cannot change what they
compute. Where a program stops is another matter: a unit that has found a fault stands still, but in
the core, which stops at the first fault in *time*, another unit may have been faster. So the others
go on here too, and the outcome is the set of all first faults.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.csr import Region
from lutcore.hw.contract.isa import Axis, Cause, Opcode, Token, Unit, decode
from lutcore.hw.contract.loops import Loop
from lutcore.sim.machine.base import (
    Fault,
    Halt,
    Layer,
    Move,
    Nest,
    Order,
    Outcome,
    Steps,
)
from lutcore.sim.machine.chain import Chain
from lutcore.sim.machine.state import Machine
from lutcore.sim.machine.transfers import load_activations, load_weights, store

__all__ = ["Flow"]


@dataclass
class _Active:
    """A unit at work: the number of its instruction and the coroutines that are left."""

    number: int
    parts: dict[str, Steps]
    halted: set[str] = field(default_factory=set)


class Flow(Machine):
    """One run of a program.

    Parameters
    ----------
    config
        The core.
    instructions
        A program without `lutcore.sw.program.rules.check` problems.
    sizes
        Bytes of the regions; None: as many as the program asks for.
    order, ahead
        See `Machine`.
    limit
        Bodies, all units taken together, after which the run is left.
    """

    def __init__(
        self,
        config: CoreConfig,
        instructions: Sequence[int],
        sizes: Mapping[Region, int] | None = None,
        *,
        order: Order = Order.LOADERS,
        ahead: bool = False,
        limit: int | None = None,
    ) -> None:
        super().__init__(config, sizes, order=order, ahead=ahead)
        self.instructions = instructions
        self.limit = limit
        self._loops: dict[Unit, list[Loop]] = {unit: [] for unit in Unit}
        self._active: dict[Unit, _Active] = {}
        self._names: dict[Unit, tuple[str, ...]] = {}  # coroutines of a unit's last instruction
        self._next = 0
        self._reached = 0
        self._ended = False
        self._parts = order.value

    # Scheduling ------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Move units until the program ends or nothing moves any more."""
        runnable: dict[str, tuple[Unit | None, Steps]] = {"fetch": (None, self._dispatch())}
        self._runnable = runnable
        moves = 0
        while not self._ended:
            if self.limit is not None and moves > self.limit:
                return self._outcome(unfinished=True)
            for name in self._parts:
                if name in runnable and self._step(name):
                    moves += 1
                    break
            else:
                if not self.faults:
                    numbers = [self._next, *(unit.number for unit in self._active.values())]
                    self.faults.append(Fault(Cause.DEADLOCK, min(numbers), "every unit waits"))
                break
        return self._outcome()

    def _outcome(self, *, unfinished: bool = False) -> Outcome:
        return Outcome(tuple(self.faults), self.undefined, unfinished, self._reached)

    def _step(self, name: str) -> bool:
        """Let a coroutine go on; whether it moved."""
        unit, steps = self._runnable[name]
        self.clocks.now = name
        try:
            return next(steps) is Move.MOVED
        except Halt as halt:
            self.faults.append(halt.fault)
            del self._runnable[name]
            if unit is not None:
                self._active[unit].halted.add(name)
        except StopIteration:
            del self._runnable[name]
            if unit is not None:
                active = self._active[unit]
                del active.parts[name]
                if not active.parts:
                    del self._active[unit]
        return True

    def _start(self, unit: Unit, number: int, parts: dict[str, Steps]) -> None:
        self._active[unit] = _Active(number, parts)
        self._names[unit] = tuple(parts)
        self.clocks.fork(parts)
        for name, steps in parts.items():
            self._runnable[name] = unit, steps

    def _dispatch(self) -> Steps:
        for number, word in enumerate(self.instructions):
            self._next = number
            instruction, fields = decode(word)
            opcode = instruction.opcode
            if opcode in (Opcode.END, Opcode.LAYER, Opcode.TOKEN):
                while self._active:
                    yield Move.WAITS
                self.clocks.follow_all(self._parts)
                if opcode == Opcode.LAYER:
                    self.layer = Layer.of(self.config, fields)
                elif opcode == Opcode.TOKEN:
                    self.add_tokens(number, Token(fields["counter"]), fields["count"])
            else:
                unit = Unit(fields["unit"]) if opcode == Opcode.LOOP else Unit[opcode.name]
                while unit in self._active:
                    yield Move.WAITS
                self.clocks.follow_all(self._names.get(unit, ()))
                if opcode == Opcode.LOOP:
                    if unit == Unit.MMA and fields["auto"]:
                        raise Halt(Cause.OPERAND, number, "mma has no auto loops")
                    self._loops[unit].append(_loop(fields))
                else:
                    if self.layer is None and unit != Unit.LDX:
                        raise Halt(Cause.OPERAND, number, "no layer before it")
                    loops, self._loops[unit] = self._loops[unit], []
                    nest = Nest(loops, fields.get("base", 0))
                    self._start(unit, number, _PARTS[unit](self, number, fields, nest))
            self._reached = number
            yield Move.MOVED
        self._ended = True


def _loop(fields: Mapping[str, int]) -> Loop:
    return Loop(
        axis=Axis(fields["axis"]),
        total=fields["total"],
        step=fields["step"],
        stride=fields["stride"],
        auto=bool(fields["auto"]),
    )


def _ldw(flow: Machine, number: int, fields: dict[str, int], nest: Nest) -> dict[str, Steps]:
    return {"ldw": load_weights(flow, number, fields, nest)}


def _ldx(flow: Machine, number: int, fields: dict[str, int], nest: Nest) -> dict[str, Steps]:
    return {"ldx": load_activations(flow, number, fields, nest)}


def _mma(flow: Machine, number: int, fields: dict[str, int], nest: Nest) -> dict[str, Steps]:
    return Chain(flow, number, fields, nest).parts()


def _sty(flow: Machine, number: int, fields: dict[str, int], nest: Nest) -> dict[str, Steps]:
    del fields
    return {"store": store(flow, number, nest)}


#: What each unit's instruction starts: coroutines, by name.
_PARTS: dict[Unit, Callable[[Machine, int, dict[str, int], Nest], dict[str, Steps]]] = {
    Unit.LDW: _ldw,
    Unit.LDX: _ldx,
    Unit.MMA: _mma,
    Unit.STY: _sty,
}
