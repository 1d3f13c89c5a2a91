"""Proof that a fault never shows, by an invariant that is searched for.

Design and mutant run side by side from the same state. Some registers may come to differ: those
that the fault reaches. Of each, it is claimed that they agree *while* some other bit of the state
has a value, such as a payload while its valid is 1. All such claims are made at first, for every
bit of the state nearby; a solver looks for a state in which all hold and after which one does not,
and that one is dropped, until the rest is inductive. If then every output agrees that counts, and
every access to a memory, the fault is proved to change nothing.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lutcore.sim.rtl.build import run_yosys
from lutcore.sw.base.errors import LutcoreError
from lutcore.verif.mutation.reach import Fact, exclude
from lutcore.verif.mutation.rtlil import Text, join

__all__ = ["Miter", "find_invariant", "never_differ"]

#: Seconds for one question to the solver.
_TIMEOUT = 60
#: Questions that are asked, and registers that may differ, before it is given up.
_QUESTIONS, _REGISTERS = 40, 60
#: States that answer a question: each refutes claims of its own.
_STATES = 24
#: Widest registers of which each value is a condition, and of which each bit is one for others.
_NARROW, _WIDE = 4, 24
#: Outputs that count only while the valid of their channel is 1.
_CHANNEL = re.compile(r"^(m_axi_ar|m_axi_aw|m_axi_w|s_axi_b|s_axi_r)(?!eady|valid)")


@dataclass
class _Register:
    """A register of which bits may differ.

    Attributes
    ----------
    width
        Bits.
    bits
        Those that may differ.
    conditions
        Bits (register, bit, value) or values (register, -1, value) of the state.
    kept
        Of each condition, whether the bits are still claimed to agree while it holds.
    """

    width: int
    bits: set[int] = field(default_factory=set)
    conditions: list[tuple[str, int, int]] = field(default_factory=list)
    kept: list[bool] = field(default_factory=list)


class Miter:
    """Design and mutant, cut at their registers and memories, side by side.

    Parameters
    ----------
    folder
        With ``gold.il`` and ``gate.il``, modules of these names with the same ports.
    facts
        States that the design never gets into.
    low
        Inputs that are 0.
    """

    def __init__(
        self, folder: Path, *, facts: Sequence[Fact] = (), low: tuple[str, ...] = ()
    ) -> None:
        self.folder, self.facts, self.low = folder, facts, low
        run_yosys(folder, "read_rtlil gold.il; write_json gold.json")
        ports = json.loads((folder / "gold.json").read_text(encoding="utf-8"))["modules"]["gold"]
        self.ports = {
            name: (port["direction"], len(port["bits"])) for name, port in ports["ports"].items()
        }
        #: Width of each register, by the name of its cell.
        self.widths = {
            name[4:-2]: width
            for name, (way, width) in self.ports.items()
            if name.startswith("cut:") and name.endswith(":Q") and f"{name[:-1]}D" in self.ports
        }
        self.differing: dict[str, _Register] = {}
        #: Kind and name of each claim, by its port.
        self.claims: dict[str, tuple[str, str]] = {}
        #: By register: an input with a bit for each condition that is given up.
        self.dropped: dict[str, str] = {}
        self.unsure: list[str] = []
        #: Claims that do not hold by structure alone.
        self.doubtful: set[tuple[str, str]] = set()
        self._stale = True

    def demote(self, cell: str, bits: set[int]) -> None:
        """Bits of a register may differ from now on, but for the conditions that turn out to do."""
        register = self.differing.setdefault(cell, _Register(self.widths[cell]))
        register.bits |= bits
        self._stale = True
        # What was refuted while fewer bits might differ stays so: the state that did is still one.
        before = dict(zip(register.conditions, register.kept, strict=True))
        register.conditions = list(self._conditions(cell))
        register.kept = [before.get(condition, True) for condition in register.conditions]

    def _conditions(self, cell: str) -> Iterator[tuple[str, int, int]]:
        """What may say whether the differing bits of a register count."""
        register = self.differing[cell]
        for other, width in self.widths.items():
            if width <= _NARROW:
                for value in range(1 << width):
                    yield other, -1, value
            elif width <= _WIDE or other == cell:
                # Fields of one register lie side by side, however many they are.
                for bit in range(width):
                    if other != cell or bit not in register.bits:
                        yield other, bit, 0
                        yield other, bit, 1

    def write(self) -> None:
        """Write ``miter.il``: port `ok` is 1 if all claims hold, `given` if all are assumed to."""
        text = Text()
        self.claims.clear()
        now: dict[str, str] = {}
        then: tuple[dict[str, str], dict[str, str]] = {}, {}
        pins: tuple[dict[str, str], dict[str, str]] = {}, {}
        for name, (way, width) in self.ports.items():
            if way == "output":
                for side in (0, 1):
                    wire = text.wire(width)
                    pins[side][name] = then[side][name] = wire
                continue
            shared = text.port(f"\\in:{name}", width, "input")
            now[name] = pins[0][name] = pins[1][name] = shared
            register = self.differing.get(name[4:-2]) if name.startswith("cut:") else None
            if register is not None and name.endswith(":Q"):
                own = text.port(f"\\own:{name}", width, "input")
                chosen = [own if bit in register.bits else shared for bit in range(width)]
                pins[1][name] = text.wire(width)
                text.connect(
                    pins[1][name], join(f"{signal} [{bit}]" for bit, signal in enumerate(chosen))
                )
        for module, side in (("gold", 0), ("gate", 1)):
            text.instance(module, module, pins[side])
        self.dropped = {
            cell: text.port(f"\\dropped_{index}", len(register.conditions), "input")
            for index, (cell, register) in enumerate(self.differing.items())
            if register.conditions
        }
        claims = [*self._outputs(text, then), *self._inductive(text, now, then)]
        given = [(text.gate("$not", 1, A=(now[name], 1)), 1) for name in self.low]
        if self.facts:
            states = {cell: now[f"cut:{cell}:Q"] for cell in self.widths}
            parts = exclude(text, self.facts, states, self.widths)
            given.append((join(parts), len(parts)))
        for cell, register in self.differing.items():
            if not register.conditions:
                continue
            agree = _agree(text, register, now[f"cut:{cell}:Q"], pins[1][f"cut:{cell}:Q"])
            values = {other: now[f"cut:{other}:Q"] for other, _, _ in register.conditions}
            given.append(self._conditional(text, cell, register, values, agree))
        for name, parts in (("ok", claims), ("given", given)):
            reduced = [text.gate("$reduce_and", 1, A=part) for part in parts] or ["1'1"]
            every = text.gate("$reduce_and", 1, A=(join(reduced), len(reduced)))
            text.connect(text.port(f"\\{name}", 1, "output"), every)
        (self.folder / "miter.il").write_text(str(text), encoding="utf-8")

    def _outputs(self, text: Text, then: tuple[dict, dict]) -> Iterator[tuple[str, int]]:
        for name, (way, width) in self.ports.items():
            if way != "output" or (name.startswith("cut:") and name[4:-2] in self.widths):
                continue
            same, width = self._same(text, ("out", name), then[0][name], then[1][name], width)
            channel = _CHANNEL.match(name)
            if channel is not None:
                valid = then[0][f"{channel[1]}valid"]
                idle = text.gate("$not", 1, A=(valid, 1))
                mask = join([idle] * width)
                same = text.gate("$or", width, A=(same, width), B=(mask, width))
            yield self._shown(text, "out", name, same, width)

    def _inductive(
        self, text: Text, now: dict, then: tuple[dict, dict]
    ) -> Iterator[tuple[str, int]]:
        for cell, width in self.widths.items():
            sides = [then[side][f"cut:{cell}:D"] for side in (0, 1)]
            register = self.differing.get(cell, _Register(width))
            rest = [bit for bit in range(width) if bit not in register.bits]
            if rest:
                left, right = (join(f"{signal} [{bit}]" for bit in rest) for signal in sides)
                same = self._same(text, ("reg", cell), left, right, len(rest))
                yield self._shown(text, "reg", cell, *same)
            if register.conditions:
                agree = _agree(text, register, *sides)
                values = {o: then[0][f"cut:{o}:D"] for o, _, _ in register.conditions}
                held = self._conditional(text, cell, register, values, agree)
                yield self._shown(text, "if", cell, *held)

    def _conditional(
        self, text: Text, cell: str, register: _Register, values: dict[str, str], agree: str
    ) -> tuple[str, int]:
        """For each condition: not kept, or not true, or the bits agree."""
        parts = []
        for place, (other, bit, value) in enumerate(register.conditions):
            width = 1 if bit >= 0 else self.widths[other]
            signal = f"{values[other]} [{bit}]" if bit >= 0 else values[other]
            wanted = f"{width}'{value:0{width}b}"
            differs = text.gate("$ne", 1, A=(signal, width), B=(wanted, width))
            dropped = f"{self.dropped[cell]} [{place}]"
            either = text.gate("$or", 1, A=(differs, 1), B=(agree, 1))
            parts.append(text.gate("$or", 1, A=(dropped, 1), B=(either, 1)))
        return join(parts), len(parts)

    def _same(
        self, text: Text, claim: tuple[str, str], left: str, right: str, width: int
    ) -> tuple[str, int]:
        """Whether two signals are the same: of each bit if the claim is in doubt, else of all."""
        if claim not in self.doubtful:
            return text.gate("$eq", 1, A=(left, width), B=(right, width)), 1
        return text.gate("$xnor", width, A=(left, width), B=(right, width)), width

    def _shown(self, text: Text, kind: str, name: str, signal: str, width: int) -> tuple[str, int]:
        """A claim, as an output that tells which of its bits fail."""
        port = f"claim_{len(self.claims)}"
        self.claims[port] = kind, name
        port = text.port(f"\\{port}", width, "output")
        text.connect(port, signal)
        return port, width

    def _prepare(self) -> None:
        """Write ``small.il``: the miter without what both sides have in common."""
        self._reduce()
        doubtful = {self.claims[name] for name in self.unsure}
        if not doubtful <= self.doubtful:
            self.doubtful |= doubtful
            self._reduce()
        self._stale = False

    def _reduce(self) -> None:
        self.write()
        run_yosys(
            self.folder,
            "read_rtlil gold.il; read_rtlil gate.il; read_rtlil miter.il; hierarchy -top miter; "
            "flatten; opt_clean; opt_expr; opt_merge; opt_clean; opt_expr; opt_clean; write_rtlil "
            "small.il; write_json small.json",
            timeout=_TIMEOUT,
        )
        small = json.loads((self.folder / "small.json").read_text(encoding="utf-8"))
        # A claim whose bits are all the constant 1 holds by structure alone.
        self.unsure = [
            name
            for name, port in small["modules"]["miter"]["ports"].items()
            if name in self.claims and set(port["bits"]) != {"1"}
        ]

    def ask(self) -> dict[tuple[str, str], set[int]] | None:
        """Bits of each claim that fail after some states; None if there is no such state.

        Raises
        ------
        LutcoreError
            If the solver has not come to an end in time.
        """
        if self._stale:
            self._prepare()
        if not self.unsure:
            return None
        shown = " ".join(f"-show \\{name}" for name in self.unsure)
        for cell, port in self.dropped.items():
            kept = self.differing[cell].kept
            bits = "".join("0" if keep else "1" for keep in reversed(kept))
            shown += f" -set {port} {len(bits)}'b{bits}"
        log = run_yosys(
            self.folder,
            f"read_rtlil small.il; sat -max {_STATES} -set given 1 -set ok 0 {shown} miter",
            timeout=_TIMEOUT,
        )
        failing: dict[tuple[str, str], set[int]] = {}
        for name, bits in re.findall(r"^ +\\(claim_\d+) .* ([01]+)$", log, re.MULTILINE):
            wrong = {place for place, bit in enumerate(reversed(bits)) if bit == "0"}
            failing.setdefault(self.claims[name], set()).update(wrong)
        if not failing and "no model found" not in log:
            raise LutcoreError("Yosys's solver gave no answer")
        return failing or None


def find_invariant(folder: Path, facts: Sequence[Fact] = ()) -> bool:
    """Whether a fault is proved never to show.

    Parameters
    ----------
    folder, facts
        As for `Miter`.

    Raises
    ------
    LutcoreError
        If the solver has not come to an end in time.
    """
    return _search(Miter(folder, facts=facts))


def never_differ(folder: Path, facts: Sequence[Fact], low: tuple[str, ...]) -> bool:
    """Whether no register ever comes to differ; as `find_invariant`, without the search."""
    return Miter(folder, facts=facts, low=low).ask() is None


def _search(miter: Miter) -> bool:
    for _ in range(_QUESTIONS):
        failing = miter.ask()
        if failing is None:
            return True
        moved = False
        # Conditions first: they are counted as they were when it was asked.
        for (kind, name), wrong in sorted(failing.items()):
            if not wrong:
                continue
            if kind == "out":
                # The rest is only going to be weaker.
                return False
            register = miter.differing.get(name)
            if kind == "reg":
                have = register.bits if register else set()
                rest = [bit for bit in range(miter.widths[name]) if bit not in have]
                miter.demote(name, {rest[place] for place in wrong})
            else:
                for place in wrong:
                    miter.differing[name].kept[place] = False
            moved = True
        if not moved or len(miter.differing) > _REGISTERS:
            return False
    return False


def _agree(text: Text, register: _Register, left: str, right: str) -> str:
    """Whether the bits that may differ are the same in two values of the register."""
    pair = (join(f"{signal} [{bit}]" for bit in sorted(register.bits)) for signal in (left, right))
    left, right = pair
    width = len(register.bits)
    return text.gate("$eq", 1, A=(left, width), B=(right, width))
