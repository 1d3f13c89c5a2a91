"""Mutation: faults of a netlist, their regression, their proof, on a design of one page."""

import dataclasses
import json
import random
from pathlib import Path

import numpy as np
import pytest

from lutcore.hw.contract.config import CoreConfig
from lutcore.hw.contract.isa import LOOP_LEVELS, UNIT_OF, Axis, Opcode
from lutcore.sim.devices.choice import run_on
from lutcore.sim.golden import golden
from lutcore.sim.rtl.build import build_model
from lutcore.sw.base.errors import LutcoreError
from lutcore.sw.base.executor import Finished
from lutcore.sw.program.compile import compile_layer
from lutcore.sw.program.rules import check
from lutcore.verif.directed.host import Record
from lutcore.verif.directed.nests import deepened, halved
from lutcore.verif.directed.scenario import Bench, Jobs, Scenario
from lutcore.verif.kit.layers import draw_case
from lutcore.verif.mutation import campaign as campaign_module
from lutcore.verif.mutation import report as mutate_report
from lutcore.verif.mutation.campaign import Campaign, FaultTask, Request, units_of
from lutcore.verif.mutation.judge import Regression, Verdict
from lutcore.verif.mutation.mutants import (
    Mutant,
    Netlist,
    candidates,
    instrument,
    read_netlist,
    sample,
    unit_of,
)
from lutcore.verif.mutation.proof import prove_equivalent

# Reads a word of memory at ADDRESS (register 0x10), counts it up and writes it 64 bytes further.
# `slow` makes it take one cycle more, `chosen` has a redundant term.
DESIGN = r"""
module \lutcore.core.engine.scale (
  input [31:0] a, input b, input c, output [31:0] y, output chosen);
  assign y = a + 32'd1;
  assign chosen = (a[0] & b) | (~a[0] & c) | (b & c);
endmodule

module lutcore(input aclk, input aresetn, output reg irq,
  input [11:0] s_axi_awaddr, input s_axi_awvalid, output s_axi_awready,
  input [31:0] s_axi_wdata, input [3:0] s_axi_wstrb, input s_axi_wvalid, output s_axi_wready,
  output [1:0] s_axi_bresp, output reg s_axi_bvalid, input s_axi_bready,
  input [11:0] s_axi_araddr, input s_axi_arvalid, output s_axi_arready,
  output [31:0] s_axi_rdata, output [1:0] s_axi_rresp, output reg s_axi_rvalid, input s_axi_rready,
  output [39:0] m_axi_araddr, output [7:0] m_axi_arlen, output [2:0] m_axi_arsize,
  output [1:0] m_axi_arburst, output m_axi_arvalid, input m_axi_arready,
  input [31:0] m_axi_rdata, input [1:0] m_axi_rresp, input m_axi_rlast, input m_axi_rvalid,
  output m_axi_rready,
  output [39:0] m_axi_awaddr, output [7:0] m_axi_awlen, output [2:0] m_axi_awsize,
  output [1:0] m_axi_awburst, output m_axi_awvalid, input m_axi_awready,
  output [31:0] m_axi_wdata, output [3:0] m_axi_wstrb, output m_axi_wlast, output m_axi_wvalid,
  input m_axi_wready, input [1:0] m_axi_bresp, input m_axi_bvalid, output m_axi_bready);
  reg [2:0] state;
  reg [31:0] address, word;
  wire [31:0] counted;
  wire chosen, slow;
  wire write = s_axi_awvalid & s_axi_wvalid & ~s_axi_bvalid;
  assign {s_axi_awready, s_axi_wready} = {2{write}};
  assign {s_axi_bresp, s_axi_rresp} = 4'd0;
  assign s_axi_arready = ~s_axi_rvalid;
  assign s_axi_rdata = address;
  assign m_axi_araddr = {8'd0, address};
  assign m_axi_awaddr = {8'd0, address} + 40'd64;
  assign {m_axi_arlen, m_axi_awlen} = 16'd0;
  assign {m_axi_arsize, m_axi_awsize} = {3'd2, 3'd2};
  assign {m_axi_arburst, m_axi_awburst} = {2'd1, 2'd1};
  assign m_axi_arvalid = state == 1;
  assign m_axi_rready = state == 2;
  assign m_axi_awvalid = state == 4;
  assign m_axi_wvalid = state == 5;
  assign m_axi_bready = state == 6;
  assign m_axi_wdata = counted;
  assign m_axi_wstrb = 4'hF;
  assign m_axi_wlast = 1'b1;
  assign slow = word[31] & word[30];
  \lutcore.core.engine.scale scale(.a(word), .b(irq), .c(state[0]), .y(counted), .chosen(chosen));
  always @(posedge aclk) begin
    if (s_axi_bready) s_axi_bvalid <= 0;
    if (s_axi_rready) s_axi_rvalid <= 0;
    if (s_axi_arvalid & s_axi_arready) s_axi_rvalid <= 1;
    case (state)
      1: if (m_axi_arready) state <= 2;
      2: if (m_axi_rvalid) begin word <= m_axi_rdata; state <= 3; end
      3: state <= slow ? 7 : 4;
      7: begin address[31] <= chosen; state <= 4; end
      4: if (m_axi_awready) state <= 5;
      5: if (m_axi_wready) state <= 6;
      6: if (m_axi_bvalid) begin state <= 0; irq <= 1; end
    endcase
    if (write) begin
      s_axi_bvalid <= 1;
      if (s_axi_awaddr == 12'h010) begin address <= s_axi_wdata; state <= 1; irq <= 0; end
    end
    if (~aresetn) begin
      state <= 0; irq <= 0; s_axi_bvalid <= 0; s_axi_rvalid <= 0; address <= 0; word <= 0;
    end
  end
endmodule
"""
SCALE = "lutcore.core.engine.scale"
CONFIG = CoreConfig(lanes=8, rows=1, depth=1, planes=1, bus_width=32)


def counts_up(bench: Bench) -> None:
    host = bench.host(latency=2)
    words = bench.memory[0x1000:0x1080].view("<u4")
    words[0] = 0x1234_5677
    words[16] = 0
    host.sim.write_csr(0x10, 0x1000)
    host.wait()
    host.check("the result", int(words[16]), 0x1234_5678)
    host.check("ADDRESS", host.sim.read_csr(0x10), 0x1000)
    host.timing.append(host.sim.cycle)


COUNTS_UP = Scenario("counts up", counts_up)


def wavers(bench: Bench) -> None:
    bench.host(latency=2).timing.append(bench.learning)


@pytest.fixture(scope="module")
def netlist(tmp_path_factory: pytest.TempPathFactory) -> Netlist:
    return read_netlist(DESIGN, tmp_path_factory.mktemp("netlist"))


def all_of(netlist: Netlist, unit: str) -> list[Mutant]:
    """Every fault of a unit."""
    return [
        mutant
        for name, module in netlist.modules.items()
        if unit_of(name) == unit
        for mutant in candidates(name, module)
    ]


def fault(netlist: Netlist, unit: str, cell_type: str, port: str, bit: int, mode: str) -> Mutant:
    return next(
        m
        for m in all_of(netlist, unit)
        if (m.cell_type, m.port, m.bit, m.mode) == (cell_type, port, bit, mode)
    )


def test_pins_that_no_hardware_has_get_no_faults(tmp_path: Path) -> None:
    rows = "".join(f"4'd{n}: y = 8'd{n * 37 % 251};" for n in range(16))
    rom = (
        "module lutcore(input [3:0] a, output reg [7:0] y); "
        f"always @* case (a) {rows} endcase endmodule"
    )
    netlist = read_netlist(rom, tmp_path)
    pins = {(m.cell_type, m.port) for m in candidates("lutcore", netlist.modules["lutcore"])}
    assert {port for kind, port in pins if kind == "$memrd_v2"} == {"ADDR", "DATA", "EN"}


def redundant(netlist: Netlist) -> Mutant:
    """The term b & c of `chosen`, without which it is the same."""
    cells = netlist.modules[SCALE]["cells"]
    ports = netlist.modules[SCALE]["ports"]
    b, c = (ports[name]["bits"][0] for name in "bc")
    for name, cell in cells.items():
        pins = cell["connections"]
        if cell["type"] == "$and" and (pins["A"], pins["B"]) == ([b], [c]):
            return Mutant("const0", SCALE, name, "$and", "Y", 0, -1, "", "")
    raise AssertionError("the term is gone")


def test_samples_repeat_and_do_not_repeat_a_fault(netlist: Netlist) -> None:
    first, again = (sample(netlist, ["scale", "core"], 60, 3) for _ in range(2))
    assert first == again
    assert len(set(first)) == 60
    assert {m.unit for m in first} == {"scale", "core"}
    assert sample(netlist, ["scale", "core"], 60, 4) != first
    assert all(m.port != "CLK" and m.signal != "aclk" for m in all_of(netlist, "core"))
    with pytest.raises(LutcoreError, match=r"has \d+ faults .* 100000 is too many"):
        sample(netlist, ["scale"], 100_000, 0)


def test_what_is_drawn_in_a_module_depends_on_no_other(netlist: Netlist, tmp_path: Path) -> None:
    """Yosys numbers its cells through the whole design."""
    scale, rest = DESIGN.split("endmodule\n", 1)
    more = rest.replace("word[31] & word[30]", "word[31] & word[30] & word[29]")
    changed = read_netlist(f"{more}{scale}endmodule\n", tmp_path)
    assert changed.modules[SCALE]["cells"].keys() != netlist.modules[SCALE]["cells"].keys()
    before, after = (
        [(m.cell_type, m.port, m.bit, m.mode) for m in sample(design, ["scale"], 60, 3)]
        for design in (netlist, changed)
    )
    assert before == after


def test_units() -> None:
    assert unit_of("lutcore.core.engine.array.lanes.table_0") == "array"
    assert unit_of("lutcore.core.engine.weights_buffer") == "buffers"
    assert unit_of("lutcore.core.engine.issue_mma.nest") == "nest"
    assert unit_of("lutcore.core.reader.splitter") == "dma"
    assert unit_of("lutcore.core.engine") == unit_of("lutcore") == "core"
    assert "scale" in units_of(["datapath"])[0]
    with pytest.raises(LutcoreError, match=r"no unit 'mma'.*datapath, control, table"):
        units_of(["mma"])


def test_regression(netlist: Netlist, tmp_path: Path) -> None:
    """Wrong values, silence and lateness are seen; a good design passes; the rest survives."""
    core = all_of(netlist, "core")
    mute = next(m for m in core if (m.signal, m.mode) == ("m_axi_arready", "const0"))
    late = next(m for m in core if (m.signal, m.mode) == ("slow", "const1"))
    mutants = [
        fault(netlist, "scale", "$add", "Y", 3, "inv"),
        fault(netlist, "core", SCALE, "a", 0, "const0"),
        mute,
        late,
        redundant(netlist),
    ]
    model = build_model(
        instrument(netlist, mutants, tmp_path), bus_width=32, optimise="fast", progress=False
    )
    regression = Regression(model, Jobs(CONFIG, 1), [COUNTS_UP])
    assert regression.learn()["cycles"] > 10
    verdicts = [regression.judge(number, mutant) for number, mutant in enumerate(mutants, 1)]
    assert [v.mutant for v in verdicts] == mutants
    outcomes = [(v.outcome, v.by) for v in verdicts]
    assert outcomes == [
        ("killed", "counts up"),
        ("killed", "counts up"),
        ("killed", "counts up"),
        ("timing", "counts up"),
        ("undecided", ""),
    ]
    assert verdicts[0].detail == "the result is 0x12345670, expected 0x12345678"
    assert "no interrupt within" in verdicts[2].detail

    def wrong(bench: Bench) -> None:
        bench.host().check("one", 1, 2)

    with pytest.raises(LutcoreError, match="without a fault fails scenario 'wrong' with seed 1"):
        Regression(model, Jobs(CONFIG, 1), [Scenario("wrong", wrong)]).learn()


def test_proof(netlist: Netlist, tmp_path: Path) -> None:
    """Redundant logic is proved so; anything else must not be."""
    assert prove_equivalent(netlist, redundant(netlist), tmp_path) == "module"
    needed = fault(netlist, "scale", "$add", "Y", 31, "const1")
    assert prove_equivalent(netlist, needed, tmp_path) is None


REDUNDANT_ADDRESS = """
module lutcore(input clk, input [3:0] a, input [7:0] d, input we, output reg [7:0] q);
  reg [7:0] words [15:0];
  wire [3:0] place;
  assign place = we ? a : ~a;
  always @(posedge clk) begin
    if (we) words[place] <= d;
    q <= words[a];
  end
endmodule
"""


def test_proof_knows_that_a_memory_ignores_what_is_not_enabled(tmp_path: Path) -> None:
    netlist = read_netlist(REDUNDANT_ADDRESS, tmp_path)
    (name,) = (
        name
        for name, cell in netlist.modules["lutcore"]["cells"].items()
        if cell["type"] == "$not" and len(cell["connections"]["Y"]) == 4
    )
    ignored = Mutant("inv", "lutcore", name, "$not", "Y", 1, -1, "", "")
    assert prove_equivalent(netlist, ignored, tmp_path) == "module"
    memory = next(m for m in all_of(netlist, "core") if m.cell_type == "$memwr_v2")
    needed = dataclasses.replace(memory, port="ADDR", bit=1, mode="inv", control_bit=-1)
    assert prove_equivalent(netlist, needed, tmp_path) is None


def test_deep_nests_do_the_same() -> None:
    source, numbers = random.Random(5), np.random.default_rng(5)
    for _ in range(5):
        case = draw_case(source, numbers, CONFIG)
        program = compile_layer(case.layer, CONFIG, case.rows)
        words = deepened(program.instructions, source)
        assert not check(words, CONFIG)
        loops = [w for w in words if w & 0xFF == Opcode.LOOP]
        units = sum(w & 0xFF in UNIT_OF for w in words)
        assert len(loops) == LOOP_LEVELS * units
        deep = dataclasses.replace(program, instructions=tuple(words))
        expected = golden(case.layer, case.q, case.scale)
        found = run_on("iss", deep, case.q, case.scale).y
        assert (found.view(np.uint32) == expected.view(np.uint32)).all()


@pytest.mark.parametrize("axis", Axis)
def test_nests_in_two_parts_do_the_same(axis: Axis) -> None:
    numbers = np.random.default_rng(6)
    blocks = 5 * CONFIG.tiles * CONFIG.lanes
    columns = 5 * CONFIG.weight_words * CONFIG.step
    shape = blocks, columns, CONFIG.run
    case = draw_case(random.Random(6), numbers, CONFIG, kind=("affine", 1), shape=shape)
    picked = numbers.integers(case.rows, size=7 * CONFIG.rows)
    case = dataclasses.replace(case, q=case.q[picked], scale=case.scale[picked])
    program = compile_layer(case.layer, CONFIG, case.rows)
    words = halved(program.instructions, axis)
    assert words != list(program.instructions)
    assert not check(words, CONFIG)
    expected = golden(case.layer, case.q, case.scale)
    changed = dataclasses.replace(program, instructions=tuple(words))
    found = run_on("iss", changed, case.q, case.scale).y
    assert (found.view(np.uint32) == expected.view(np.uint32)).all()


def test_what_a_process_learnt_serves_another(netlist: Netlist, tmp_path: Path) -> None:
    """Records pass through JSON and judge as before."""
    mutants = [redundant(netlist), fault(netlist, "scale", "$add", "Y", 3, "inv")]
    model = build_model(
        instrument(netlist, mutants, tmp_path), bus_width=32, optimise="fast", progress=False
    )
    learnt = Regression(model, Jobs(CONFIG, 1), [COUNTS_UP]).learn()["records"]
    text = json.dumps({name: [vars(record) for record in some] for name, some in learnt.items()})
    records = {name: [Record(**one) for one in some] for name, some in json.loads(text).items()}
    regression = Regression(model, Jobs(CONFIG, 1), [COUNTS_UP], records)
    outcomes = [regression.judge(number, mutants[number - 1]).outcome for number in (1, 2)]
    assert outcomes == ["undecided", "killed"]


def test_verdicts_do_not_depend_on_what_a_process_has_judged_before(
    netlist: Netlist, tmp_path: Path
) -> None:
    """What a scenario takes from the core without faults is in its records."""

    def repeats(bench: Bench) -> None:
        host = bench.host(latency=2)
        bench.memory[0x1000:0x1004].view("<u4")[0] = 1
        host.sim.write_csr(0x10, 0x1000)
        host.wait()
        result = int(bench.memory[0x1040:0x1044].view("<u4")[0])
        for _ in range(host.known(result)):
            bench.host()

    mutants = [fault(netlist, "scale", "$add", "Y", 3, "inv"), redundant(netlist)]
    model = build_model(
        instrument(netlist, mutants, tmp_path), bus_width=32, optimise="fast", progress=False
    )
    scenarios = [Scenario("repeats", repeats)]
    learnt = Regression(model, Jobs(CONFIG, 1), scenarios).learn()["records"]
    regression = Regression(model, Jobs(CONFIG, 1), scenarios, learnt)
    assert len(learnt["repeats"]) == 1 + 2
    for number in (1, 2, 2, 1):
        assert regression.judge(number, mutants[number - 1]).outcome == "undecided"


def test_a_scenario_that_fails_on_a_wrong_core_has_noticed_it(
    netlist: Netlist, tmp_path: Path
) -> None:
    def fails(bench: Bench) -> None:
        if not bench.learning and "mutsel" in dict(bench.model.inputs):
            raise ValueError("49 is not a valid Cause")

    mutant = redundant(netlist)
    model = build_model(
        instrument(netlist, [mutant], tmp_path), bus_width=32, optimise="fast", progress=False
    )
    regression = Regression(model, Jobs(CONFIG, 1), [Scenario("fails", fails)])
    regression.learn()
    verdict = regression.judge(1, mutant)
    assert (verdict.outcome, verdict.by) == ("killed", "fails")
    assert verdict.detail == "ValueError: 49 is not a valid Cause"


def test_a_fault_that_hangs_or_crashes_is_noticed(netlist: Netlist) -> None:
    mutant = redundant(netlist)
    task = FaultTask(Request(), 1)
    verdict = campaign_module._verdict(Finished(task, error="no end", died=True), [mutant])
    assert (verdict.outcome, verdict.by, verdict.detail) == ("killed", "crash", "no end")
    with pytest.raises(LutcoreError, match="fault 1 cannot be judged: no g"):
        campaign_module._verdict(Finished(task, error="no g++"), [mutant])


def test_report() -> None:
    mutant = Mutant("inv", SCALE, "c", "$add", "Y", 3, -1, "sum[3]", "core.v:1")
    campaign = Campaign(
        Request(units=("scale",), count=2, seed=9),
        (
            Verdict(1, mutant, "killed", "layers", "byte 3 is wrong"),
            Verdict(2, dataclasses.replace(mutant, mode="const0"), "undecided"),
        ),
        1000,
    )
    assert [v.number for v in campaign.undecided] == [2]
    text = mutate_report.lines(campaign)
    assert text[0] == "killed by layers 1"
    assert text[1] == "undecided: fault 2, engine.scale: const0 at $add Y[3], net sum[3]"
    assert text[2].endswith("lutcore mutate --unit scale --count 2 --seed 9 --only 2")
    assert mutate_report.table(campaign).row_count == 2
    written = json.loads(mutate_report.json_text(campaign))
    assert written["totals"] == {"killed": 1, "timing": 0, "equivalent": 0, "undecided": 1}
    assert written["faults"][1]["module"] == SCALE
    assert np.all([fault["unit"] == "scale" for fault in written["faults"]])


def test_a_scenario_has_to_do_the_same_again(netlist: Netlist, tmp_path: Path) -> None:
    verilog = instrument(netlist, [redundant(netlist)], tmp_path)
    model = build_model(verilog, bus_width=32, optimise="fast", progress=False)
    with pytest.raises(LutcoreError, match="'wavers' runs again"):
        Regression(model, Jobs(CONFIG, 1), [COUNTS_UP, Scenario("wavers", wavers)]).learn()
