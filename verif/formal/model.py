"""What a property is made of: a design, what is assumed of its inputs, what is claimed, a twin.

A property is a closed Amaranth design: the unit as it is generated, and around it free inputs,
assumptions and claims. Its *twin* is the same with a broken unit: a signal of the netlist that does
not get its value, or a function that is another one. The claim must be refuted there, or it says
nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from unittest.mock import patch

from amaranth.hdl import Assert, Assume, Cover, Elaboratable, Module, Signal, Value
from amaranth.lib import stream, wiring

from lutcore.hw.contract.config import CoreConfig
from lutcore.sw.base.errors import LutcoreError

__all__ = [
    "Closed",
    "Model",
    "Net",
    "Patch",
    "Property",
    "TwinError",
    "config_label",
    "streams_of",
]


@dataclass(frozen=True)
class Net:
    """A twin by the netlist: a named signal of the unit does not get its value.

    Attributes
    ----------
    signal
        Path in the flattened design, such as ``"dut.bank"``.
    fault
        What is wrong then, in a few words.
    value
        What all that read the signal see; None: anything, in every cycle.
    """

    signal: str
    fault: str
    value: int | None = None


@dataclass(frozen=True)
class Patch:
    """A twin by a Python object: an attribute that is another one while the unit is built.

    Attributes
    ----------
    owner
        Name of a module, or of a class as ``module:Class``.
    name
        The attribute.
    make
        Gives the other one, from the right one.
    fault
        What is wrong then, in a few words.
    """

    owner: str
    name: str
    make: Callable[[Any], Any]
    fault: str

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The attribute is the other one.

        Raises
        ------
        TwinError
            If there is no such attribute.
        """
        module, _, inner = self.owner.partition(":")
        owner = import_module(module)
        if inner:
            owner = getattr(owner, inner)
        if not hasattr(owner, self.name):
            raise TwinError(f"{self.owner} has no {self.name}: let the twin change another name")
        # As it stands in the class, so that a property stays one.
        right = vars(owner)[self.name]
        with patch.object(owner, self.name, self.make(right)):
            yield


class TwinError(LutcoreError, ValueError):
    """A twin that cannot be made; the message has the name that is not there."""


class Model:
    """A closed design under construction.

    Attributes
    ----------
    m
        The module around the unit.
    ports
        Its free inputs.
    probes
        Inputs that stand for internal signals of the unit: name of the port, path of the signal.
    started
        0 in the first cycle, then 1.
    """

    def __init__(self) -> None:
        self.m = Module()
        self.ports: list[Signal] = []
        self.probes: dict[str, str] = {}
        self.started = Signal(name="started")
        self.m.d.sync += self.started.eq(1)

    def unit(self, design: Any, name: str = "dut") -> Any:
        """Put the unit into the design."""
        self.m.submodules[name] = design
        return design

    def free(self, name: str, shape: Any = 1) -> Any:
        """An input that may have any value in any cycle."""
        port = Signal(shape, name=name)
        self.ports.append(Value.cast(port))  # type: ignore[arg-type]
        return port

    def constant(self, name: str, shape: Any = 1) -> Any:
        """An input that may have any value, the same in all cycles."""
        port = self.free(name, shape)
        self.given(~self.started | (Value.cast(port) == self.past(port)))
        return port

    def drive(self, target: Any, name: str) -> Any:
        """Let an input of the unit be free."""
        port = self.free(name, Value.cast(target).shape())
        self.m.d.comb += Value.cast(target).eq(port)
        return port

    def probe(self, path: str, shape: Any = 1) -> Any:
        """An internal signal, by its path in the flattened design, such as ``dut.count``."""
        name = f"probe_{len(self.probes)}"
        self.probes[name] = path
        return self.free(name, shape)

    def past(self, value: Any, cycles: int = 1) -> Any:
        """``value`` some cycles ago; 0 before the first cycle."""
        for _ in range(cycles):
            before = Signal(Value.cast(value).shape())
            self.m.d.sync += before.eq(value)
            value = before
        return value

    def named(self, value: Any, name: str) -> Any:
        """``value`` as a signal of this name, to be seen in traces."""
        signal = Signal(Value.cast(value).shape(), name=name)
        self.m.d.comb += signal.eq(value)
        return signal

    def given(self, condition: Any) -> None:
        """Only what fulfils this is looked at."""
        self.m.d.comb += Assume(condition, None)

    def claim(self, condition: Any, name: str) -> None:
        """This holds in every cycle."""
        self.m.d.comb += Assert(self.named(condition, f"claim_{name}"), None)

    def reachable(self, condition: Any, name: str) -> None:
        """This happens in some run: what is claimed of it is not claimed of nothing."""
        self.m.d.comb += Cover(self.named(condition, f"reach_{name}"), None)

    def holds_until_taken(self, source: Any) -> Value:
        """That an offer that was not taken stands, with the same payload."""
        payload = Value.cast(source.payload)
        waits = self.past(source.valid & ~source.ready)
        return ~waits | (source.valid & (payload == self.past(payload)))


def config_label(config: CoreConfig) -> str:
    """The keys of a configuration that matter to a unit, in a few characters."""
    kind = "ternary" if config.ternary else config.table_form
    return (
        f"{kind} k{config.group} G{config.depth} P{config.planes} "
        f"{config.table_store} {config.activation}"
    )


@dataclass(frozen=True)
class Property:
    """One property and how it is proved.

    Attributes
    ----------
    name
        Unit and property, such as ``lane-symmetric-k4``.
    unit
        What ``--unit`` selects.
    claim
        The property in one sentence.
    config
        What it is proved for, as shown.
    build
        Puts the closed design together. It is called after the twin's `Break` is in place, so it
        must import the unit itself.
    twin
        How the twin is broken.
    method
        ``"window"``: from every state of the unit, reachable or not, all runs of ``depth`` cycles
        (which the claim does not look beyond), so that nothing is bounded. ``"induction"``: the
        first ``depth`` cycles from reset, and from any ``depth`` cycles that fulfil all claims the
        next. ``"exhaustive"``: ``check`` goes through all cases in software.
    depth
        Cycles.
    twin_depth
        Cycles in which the twin must fail, from reset (window: any state); 0: ``depth``.
    check
        For ``"exhaustive"``: returns how many cases it has been through, raises AssertionError.
    quick
        Part of the short run of ``make test``.
    cover_depth
        Cycles in which what must be reachable is reached; 0: not looked for.
    """

    name: str
    unit: str
    claim: str
    config: str
    twin: Net | Patch
    build: Callable[[Model], None] | None = None
    method: str = "induction"
    depth: int = 1
    twin_depth: int = 0
    check: Callable[[], int] | None = None
    quick: bool = False
    cover_depth: int = 0


class Closed(Elaboratable):
    """A model's module, as Amaranth wants it."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def elaborate(self, platform: object) -> Module:
        return self.model.m


def streams_of(component: wiring.Component) -> list[tuple[str, Any, bool]]:
    """Streams of a component: path, the interface, whether the component is the source."""
    found = []

    def walk(signature: Any, interface: Any, path: str, outwards: bool) -> None:
        for name, member in signature.members.items():
            out = (member.flow == wiring.Out) == outwards
            if not member.is_signature:
                continue
            elements = [(f"{path}{name}", getattr(interface, name))]
            for size in member.dimensions:
                elements = [(f"{p}[{i}]", e[i]) for p, e in elements for i in range(size)]
            for place, element in elements:
                if isinstance(member.signature, stream.Signature):
                    found.append((place, element, out))
                else:
                    walk(member.signature, element, f"{place}.", out)

    walk(component.signature, component, "", True)
    return found
