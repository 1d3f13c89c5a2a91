"""The generated references against the tables and the files in docs/."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lutcore.hw.contract.csr import CSRS
from lutcore.hw.contract.isa import INSTRUCTION_BITS, INSTRUCTIONS, Cause, encode
from lutcore.sw.app.docs import csr_reference, isa_reference, write_references

DOCS = Path(__file__).resolve().parents[3] / "docs"


@pytest.mark.parametrize(
    ("name", "generate"), [("isa.md", isa_reference), ("csr.md", csr_reference)]
)
def test_files_are_up_to_date(name, generate):
    assert (DOCS / name).read_text() == generate(), (
        f"docs/{name} is not what the tables say: run python -m lutcore.sw.app.docs docs/"
    )


def section(text: str, title: str) -> str:
    return text.split(f"\n### {title}\n", 1)[1].split("\n### ", 1)[0].split("\n## ", 1)[0]


@pytest.mark.parametrize("instruction", INSTRUCTIONS.values(), ids=lambda i: i.name)
def test_bit_ranges_are_those_of_the_encoder(instruction):
    rows = re.findall(
        r"\| (\d+)(?::(\d+))? \| `?(\w+)`? \|", section(isa_reference(), instruction.name)
    )
    ranges = {name: (int(low or high), int(high)) for high, low, name in rows}
    assert sum(high - low + 1 for low, high in ranges.values()) == INSTRUCTION_BITS
    base = {field.name: max(0, field.limits[0]) for field in instruction.fields}
    for field in instruction.fields:
        low, high = ranges[field.name]
        changed = encode(instruction.opcode, **base | {field.name: base[field.name] + 1})
        difference = changed ^ encode(instruction.opcode, **base)
        assert difference >> low << low == difference
        assert difference.bit_length() <= high + 1


def test_every_cause_and_register_is_explained():
    isa, csr = isa_reference(), csr_reference()
    for cause in Cause:
        assert f"| {cause.value} | `{cause.name}` |" in isa
    for register in CSRS.values():
        line = f"| 0x{register.offset:03x} | `{register.name}` | {register.access} |"
        assert csr.count(line) == 1


def test_links_inside_the_references_have_targets():
    texts = {"isa.md": isa_reference(), "csr.md": csr_reference()}
    for name, text in texts.items():
        for file, anchor in re.findall(r"\]\(([\w.]*)#([\w-]+)\)", text):
            target = texts[file or name]
            titles = re.findall(r"^#+ (.+)$", target, re.MULTILINE)
            assert anchor in {title.lower().replace(" ", "-") for title in titles}


def test_command_writes_both(tmp_path):
    command = [sys.executable, "-m", "lutcore.sw.app.docs", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(tmp_path / "isa.md"), str(tmp_path / "csr.md")]
    assert (tmp_path / "isa.md").read_text() == isa_reference()


def test_command_refuses_a_missing_folder(tmp_path):
    command = [sys.executable, "-m", "lutcore.sw.app.docs", str(tmp_path / "missing")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("usage:")


def test_writing_twice_gives_the_same_bytes(tmp_path):
    first = [path.read_bytes() for path in write_references(tmp_path)]
    assert [path.read_bytes() for path in write_references(tmp_path)] == first
