"""Quantised layers out of GGUF files."""

from pathlib import Path

import numpy as np
from gguf import GGUFEndian, GGUFReader, ReaderTensor
from gguf.constants import GGML_QUANT_SIZES

from lutcore.sw.base.errors import CheckpointError
from lutcore.sw.layers.gguf_blocks import BLOCK_DECODERS
from lutcore.sw.layers.layer import QuantLayer, TensorInfo

__all__ = ["GgufCheckpoint"]

_UNQUANTISED = {"F64", "F32", "F16", "BF16", "I8", "I16", "I32", "I64"}
_FLOAT_CODES = {"MXFP4", "NVFP4"}


class GgufCheckpoint:
    """The tensors of one GGUF file.

    Opening reads the metadata; a tensor's data is read when it is asked for.

    Raises
    ------
    CheckpointError
        If the file is missing, truncated, corrupt, or not GGUF.
    """

    def __init__(self, path: Path):
        self._path = path
        try:
            reader = _BoundedReader(path)
        except OSError as error:
            raise CheckpointError(f"Cannot read {path}: {error.strerror or error}") from error
        except (ValueError, LookupError, ArithmeticError, RecursionError, MemoryError) as error:
            raise CheckpointError(
                f"{path} is damaged or no GGUF file ({error}): fetch it again"
            ) from error
        if reader.endianess != GGUFEndian.LITTLE:
            raise CheckpointError(
                f"{path} is big-endian: convert it with gguf-convert-endian {path.name} little"
            )
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}

    def list_tensors(self) -> list[TensorInfo]:
        """Every tensor in the file's order, judged by its format and shape."""
        found = []
        for name, tensor in self._tensors.items():
            reason = _refusal(tensor)
            found.append(
                TensorInfo(name, tensor.tensor_type.name, _shape(tensor), not reason, reason)
            )
        return found

    def read_layer(self, name: str) -> QuantLayer:
        """Decode one tensor, which must be in the list.

        Raises
        ------
        CheckpointError
            If the tensor is of a format or shape that does not compile, or corrupt.
        LayerError
            If a scale is NaN or infinite.
        """
        tensor = self._tensors[name]
        if reason := _refusal(tensor):
            raise CheckpointError(
                f"{name} ({tensor.tensor_type.name} {list(_shape(tensor))}) does not compile: "
                f"{reason}"
            )
        _, block_bytes = GGML_QUANT_SIZES[tensor.tensor_type]
        raw = np.asarray(tensor.data)
        blocks = raw.reshape(len(raw), -1, block_bytes)
        try:
            decoded = BLOCK_DECODERS[tensor.tensor_type.name](blocks)
        except CheckpointError as error:
            raise CheckpointError(f"{self._path}: {name}: {error}") from error
        return QuantLayer(
            name=name,
            kind=decoded.kind,
            bits=decoded.bits,
            codes=decoded.codes,
            group_size=decoded.group_size,
            scales=decoded.scales,
            offsets=decoded.offsets,
            bias=None,
            checkpoint_bytes=int(tensor.n_bytes),
        )


class _BoundedReader(GGUFReader):
    """A reader that stops at the end of the file.

    The library's own takes a short or empty slice for an answer, so that a corrupt length in the
    metadata can keep it in a loop of up to 2**64 empty reads.
    """

    def _get(self, offset, dtype, count=1, override_order=None):
        end = int(offset) + np.dtype(dtype).itemsize * int(count)
        if end > len(self.data):
            raise ValueError(f"it ends at byte {len(self.data)}, before byte {end}")
        return super()._get(offset, dtype, count, override_order)


def _shape(tensor: ReaderTensor) -> tuple[int, ...]:
    """Dimensions slowest first; GGUF stores them fastest first."""
    return tuple(int(size) for size in reversed(tensor.shape.tolist()))


def _refusal(tensor: ReaderTensor) -> str:
    """Why a tensor does not compile and what would work, or nothing."""
    form = tensor.tensor_type.name
    shape = _shape(tensor)
    if len(shape) < 2:
        return "a vector, where only matrices compile"
    if form in _UNQUANTISED:
        return "not quantised: requantise it, e.g. to Q4_1 or Q8_0"
    if len(shape) > 2:
        return f"{len(shape)} dimensions: split it into matrices [N, K]"
    if 0 in shape:
        return "it has no elements"
    if form in _FLOAT_CODES:
        return "its codes are floating-point numbers: requantise it, e.g. to Q4_K or Q4_1"
    if form.startswith("IQ"):
        return "its codes index a table of uneven values: requantise it, e.g. to Q4_K or Q2_K"
    if form not in BLOCK_DECODERS:
        return f"no reader for {form}: requantise it to one of {', '.join(BLOCK_DECODERS)}"
    return ""
