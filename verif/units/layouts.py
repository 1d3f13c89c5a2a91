"""Values of structured ports as integers, which is what a simulator takes and gives."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from amaranth.hdl import Shape
from amaranth.lib import data

__all__ = ["Codec", "codec"]


class _Part(NamedTuple):
    key: Any
    offset: int
    codec: "Codec"


class Codec(NamedTuple):
    """Packs and unpacks the values of a shape; made by :func:`codec`.

    Attributes
    ----------
    width, signed
        Of the bits as one number.
    parts
        The members of a layout; None for a number.
    array
        Whether the layout is an array.
    """

    width: int
    signed: bool
    parts: tuple[_Part, ...] | None
    array: bool

    def pack(self, value: Any) -> int:
        """The bits of a value: a number, or a mapping or sequence for a layout.

        Members that a mapping does not name are 0.
        """
        if self.parts is None or isinstance(value, int):
            return int(value) & (1 << self.width) - 1
        bits = 0
        if isinstance(value, Mapping):
            for key, offset, part in self.parts:
                if key in value:
                    bits |= part.pack(value[key]) << offset
            return bits
        for (_, offset, part), item in zip(self.parts, value, strict=True):
            bits |= part.pack(item) << offset
        return bits

    def unpack(self, bits: int) -> Any:
        """A number, a dictionary of a structure's members, or a list of an array's."""
        if self.parts is None:
            bits &= (1 << self.width) - 1
            negative = self.signed and bits >> self.width - 1
            return bits - (1 << self.width) if negative else bits
        if self.array:
            return [part.unpack(bits >> offset) for _, offset, part in self.parts]
        return {key: part.unpack(bits >> offset) for key, offset, part in self.parts}


def codec(shape: Any) -> Codec:
    """The codec of a shape of Amaranth: of a layout, or of anything that is a number."""
    try:
        layout = data.Layout.cast(shape)
    except TypeError:
        plain = Shape.cast(shape)
        return Codec(plain.width, plain.signed, None, False)
    parts = tuple(_Part(key, field.offset, codec(field.shape)) for key, field in layout)
    return Codec(layout.as_shape().width, False, parts, isinstance(layout, data.ArrayLayout))
