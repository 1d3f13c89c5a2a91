"""Units of the core that are synthesised by themselves, and what of a configuration each sees."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from lutcore.hw.compute.array import ArrayUnit
from lutcore.hw.compute.final import FinalUnit
from lutcore.hw.compute.lanes import LookupTable
from lutcore.hw.compute.scale import ScaleUnit
from lutcore.hw.compute.table import TableUnit
from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.export import component_verilog, generate_verilog
from lutcore.hw.memory.buffers import SlotBuffer
from lutcore.hw.transfer.activations import ActivationLoader
from lutcore.hw.transfer.slot_writer import write_signature
from lutcore.hw.transfer.store import StoreUnit
from lutcore.hw.transfer.weights import WeightLoader

__all__ = ["UNITS", "Unit", "unit_verilog"]


@dataclass(frozen=True)
class Unit:
    """A kind of unit.

    Attributes
    ----------
    build
        Makes one for a configuration.
    keys
        Keys of the configuration that it depends on, separated by spaces. Configurations that
        differ in other keys alone share a design.
    """

    build: Callable[[CoreConfig], wiring.Component]
    keys: str


class _Sums(wiring.Component):
    """The memories of the scale unit's sums."""

    write_enable: Signal
    write_address: Signal
    write_data: Signal
    read_enable: Signal
    read_address: Signal
    read_data: data.View

    def __init__(self, config: CoreConfig) -> None:
        self.depth = config.sum_words
        width = config.sum_width * config.scale_lanes
        address = (config.sum_words - 1).bit_length()
        super().__init__(
            {
                "write_enable": In(2),
                "write_address": In(address),
                "write_data": In(width),
                "read_enable": In(2),
                "read_address": In(address),
                "read_data": Out(data.ArrayLayout(width, 2)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for slot in range(2):
            memory = Memory(shape=len(self.write_data), depth=self.depth, init=[])
            m.submodules[f"slot_{slot}"] = memory
            write, read = memory.write_port(), memory.read_port()
            m.d.comb += [
                write.en.eq(self.write_enable[slot]),
                write.addr.eq(self.write_address),
                write.data.eq(self.write_data),
                read.en.eq(self.read_enable[slot]),
                read.addr.eq(self.read_address),
                self.read_data[slot].eq(read.data),
            ]
        return m


def _weight_buffer(config: CoreConfig) -> SlotBuffer:
    return SlotBuffer(
        width=ArrayUnit(config).stored_bits,
        piece=config.slice_group * config.lanes,
        slot_words=config.weight_words,
    )


def _scale_buffer(config: CoreConfig) -> SlotBuffer:
    scale = ScaleUnit(config)
    return SlotBuffer(width=scale.word_bits, piece=config.bus_width, slot_words=scale.slot_words)


def _bias_buffer(config: CoreConfig) -> SlotBuffer:
    final = FinalUnit(config)
    return SlotBuffer(
        width=final.bias_width, piece=config.bus_width, slot_words=final.bias_slot_words
    )


def _x_buffer(config: CoreConfig) -> SlotBuffer:
    return SlotBuffer(
        width=config.x_memory_bits,
        piece=config.bus_width,
        slot_words=config.x_slot_words,
    )


def _ldw(config: CoreConfig) -> WeightLoader:
    scale, final, beat = ScaleUnit(config), FinalUnit(config), config.bus_width
    return WeightLoader(
        config,
        scale_write=write_signature(scale.word_bits, beat, scale.slot_words),
        bias_write=write_signature(final.bias_width, beat, final.bias_slot_words),
    )


def _ldx(config: CoreConfig) -> ActivationLoader:
    write = write_signature(config.x_memory_bits, config.bus_width, config.x_slot_words)
    return ActivationLoader(config, write=write)


_TABLES = "group activation table_store table_form ternary"

#: Units by name. ``core`` is all of them.
UNITS: dict[str, Unit] = {
    "array": Unit(ArrayUnit, f"rows lanes depth {_TABLES} planes bus_width tiles run weight_words"),
    "lookup": Unit(LookupTable, f"rows lanes {_TABLES}"),
    "table": Unit(
        TableUnit,
        "rows lanes depth group activation planes table_form ternary bus_width tiles run x_words "
        "weight_words sum_words scale_lanes",
    ),
    "scale": Unit(
        ScaleUnit,
        "rows lanes activation planes table_form bus_width tiles run scale_words sum_words "
        "scale_lanes",
    ),
    "sums": Unit(_Sums, "activation planes sum_words scale_lanes"),
    "final": Unit(
        FinalUnit,
        "rows lanes activation planes bus_width tiles sum_words scale_lanes final_lanes",
    ),
    "store": Unit(StoreUnit, "rows lanes bus_width tiles final_lanes"),
    "ldw": Unit(
        _ldw,
        "lanes group depth planes bus_width tiles weight_words scale_words scale_lanes final_lanes",
    ),
    "ldx": Unit(_ldx, "rows depth activation bus_width x_words"),
    "weight_buffer": Unit(_weight_buffer, "lanes group depth bus_width weight_words"),
    "scale_buffer": Unit(_scale_buffer, "bus_width scale_words scale_lanes"),
    "bias_buffer": Unit(_bias_buffer, "lanes bus_width tiles final_lanes"),
    "x_buffer": Unit(_x_buffer, "rows depth activation bus_width x_words"),
}


def unit_verilog(name: str, config: CoreConfig, target: str) -> tuple[str, str]:
    """Verilog of a unit for a target, and its top module.

    Parameters
    ----------
    name
        One of `UNITS`, or ``"core"``.
    config
        What it is built for.
    target
        Of `lutcore.fpga.synth.flow`; families with carry cells of their own get them placed.
    """
    if name == "core":
        return generate_verilog(config, target), "lutcore"
    unit = UNITS[name].build(config)
    ports: list[Any] = [Value.cast(member) for _, _, member in unit.signature.flatten(unit)]
    return component_verilog(unit, name, ports, target), name
