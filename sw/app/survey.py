"""Which tensors of a checkpoint compile, judged by their values as well as by their format."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from lutcore.sw.base.errors import CheckpointError, LayerError
from lutcore.sw.layers.checkpoint import list_tensors, read_layer
from lutcore.sw.layers.gguf_reader import GgufCheckpoint
from lutcore.sw.layers.layer import TensorInfo
from lutcore.sw.program.pack import encode_scales

__all__ = ["survey"]


def survey(path: Path | str) -> Iterator[TensorInfo]:
    """Yield every tensor of a checkpoint, in its order.

    One that compiles by format and shape is read, so that the answer is that of the compiler for
    a core with enough planes: a scale that is NaN, or scales too far apart to be exact, are found.

    Raises
    ------
    CheckpointError
        If the file cannot be read or is of another kind.
    """
    path = Path(path)
    if path.suffix.lower() == ".gguf":
        checkpoint = GgufCheckpoint(path)
        tensors, read = checkpoint.list_tensors(), checkpoint.read_layer
    else:
        tensors, read = list_tensors(path), lambda name: read_layer(path, name)
    for tensor in tensors:
        if tensor.compiles:
            try:
                encode_scales(read(tensor.name))
            except (CheckpointError, LayerError) as error:
                reason = str(error).removeprefix(f"Layer {tensor.name!r}: ")
                tensor = dataclasses.replace(tensor, compiles=False, reason=reason)
        yield tensor
