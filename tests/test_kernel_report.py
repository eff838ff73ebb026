"""benchmarks/kernel_report.py: what it reads out of ptxas and nvdisasm, on samples kept here as text."""

from __future__ import annotations

import pytest

from benchmarks import kernel_model, kernel_report, ptxas, sass

PTXAS = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z5firstv' for 'sm_90a'
ptxas info    : Function properties for _Z5firstv
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 194 registers, used 16 barriers, 640 bytes smem
ptxas info    : Compile time = 138.911 ms
ptxas info    : Compiling entry function '_Z6secondv' for 'sm_80'
ptxas info    : Function properties for _Z6secondv
    48 bytes stack frame, 40 bytes spill stores, 36 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 400 bytes cmem[0]
ptxas info    : Compile time = 9.911 ms
"""

# Two roles of warps: the one that arrives is done after BAR.ARV, but for the way back.
CLUSTER = """
//--------------------- .text._Z7clusterv --------------------------
	.section	.text._Z7clusterv,"ax",@progbits
.text._Z7clusterv:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
.L_x_0:
        /*0010*/                   HMMA.16816.F32.BF16 R4, R12, R16, RZ ;
        /*0020*/              @!P0 BRA `(.L_x_0) ;
        /*0030*/                   MEMBAR.ALL.GPU ;
        /*0040*/                   UCGABAR_WAIT ;
        /*0050*/                   CCTL.IVALL ;
.L_x_1:
        /*0060*/                   ISETP.NE.AND P2, PT, R0, RZ, PT ;
        /*0070*/              @!P2 BRA `(.L_x_2) ;
        /*0080*/                   SYNCS.PHASECHK.TRANS64.TRYWAIT P3, [R9+URZ], R8 ;
        /*0090*/              @!P3 BRA `(.L_x_9) ;
.L_x_2:
        /*00a0*/                   LDSM.16.MT88.4 R20, [R2] ;
        /*00b0*/                   HMMA.16816.F32.BF16 R4, R12, R20, RZ ;
        /*00c0*/                   HMMA.16816.F32.BF16 R8, R12, R22, RZ ;
        /*00d0*/                   HMMA.16816.F32.BF16 R4, R16, R20, R4 ;
        /*00e0*/                   HMMA.16816.F32.BF16 R24, R16.reuse, R20, R4 ;
        /*00f0*/               @P4 BRA `(.L_x_3) ;
        /*0100*/                   BAR.SYNC.DEFER_BLOCKING R14, 0x40 ;
        /*0110*/                   LDS R5, [R3+0x80] ;
        /*0120*/                   BRA `(.L_x_4) ;
.L_x_3:
        /*0130*/                   STS [R3+0x80], R4 ;
        /*0140*/                   BAR.ARV R14, 0x40 ;
.L_x_4:
        /*0150*/               @P4 BRA `(.L_x_7) ;
        /*0160*/                   MUFU.EX2 R5, R5 ;
        /*0170*/               @P5 BRA `(.L_x_5) ;
        /*0180*/                   CALL.REL.NOINC `($__internal_0_slowpath) ;
        /*0190*/                   BRA `(.L_x_6) ;
.L_x_5:
        /*01a0*/                   MUFU.RCP R5, R5 ;
.L_x_6:
        /*01b0*/                   SHFL.IDX PT, R6, R5, R7, 0x1f ;
        /*01c0*/                   STAS.128 [R10.64], R4 ;
        /*01d0*/                   STG.E desc[UR6][R30.64], R5 ;
        /*01e0*/                   LDG.E R5, desc[UR6][R32.64] ;
.L_x_7:
        /*01f0*/                   VIADD R0, R0, 0x1 ;
        /*0200*/              @!P6 BRA `(.L_x_1) ;
        /*0210*/                   UCGABAR_ARV ;
        /*0220*/                   EXIT ;
.L_x_9:
        /*0230*/                   SYNCS.PHASECHK.TRANS64.TRYWAIT P3, [R9+URZ], R8 ;
        /*0240*/              @!P3 BRA `(.L_x_9) ;
        /*0250*/                   BRA `(.L_x_2) ;
$__internal_0_slowpath:
        /*0260*/                   RET.REL.NODEC R4 `(_Z7clusterv) ;
.L_x_10:
        /*0270*/                   BRA `(.L_x_10);
"""

# A flag is polled, and a loop inside multiplies.
GRID = """
//--------------------- .text._Z4gridv --------------------------
        /*0000*/                   IMAD.MOV.U32 R1, RZ, RZ, c[0x0][0x28] ;
        /*0010*/              @!P0 EXIT ;
.L_x_1:
        /*0020*/               @P2 BRA `(.L_x_3) ;
.L_x_2:
        /*0030*/                   LDG.E.STRONG.GPU R5, [R6.64] ;
        /*0040*/                   CCTL.IVALL ;
        /*0050*/              @!P0 BRA `(.L_x_2) ;
.L_x_3:
        /*0060*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
.L_x_4:
        /*0070*/                   LDSM.16.M88.4 R12, [R18] ;
        /*0080*/                   HMMA.16816.F32.BF16 R4, R12, R12, R4 ;
        /*0090*/               @P3 BRA `(.L_x_4) ;
        /*00a0*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
        /*00b0*/                   MEMBAR.ALL.GPU ;
        /*00c0*/                   ST.E.STRONG.GPU [R6.64], R7 ;
        /*00d0*/               @P4 BRA `(.L_x_1) ;
        /*00e0*/                   EXIT ;
"""


def loop_of(text: str) -> sass.Loop:
    ((_, body),) = sass.functions(text).items()
    return sass.step_loop(sass.blocks(body))


def addresses(way: list[sass.Instruction]) -> list[int]:
    return [i.address for i in way]


def test_ptxas():
    first, second = ptxas.parse(PTXAS)
    assert first == ptxas.Kernel("_Z5firstv", "sm_90a", registers=194, stack=0, spills=0, static_shared=640)
    assert second == ptxas.Kernel("_Z6secondv", "sm_80", registers=255, stack=48, spills=76)


@pytest.mark.parametrize(
    ("signature", "argument"),
    [
        ("void a::kernel<a::Shape<b::T, 256, 4> >(a::Arguments)", "a::Shape<b::T, 256, 4>"),
        ("void kernel<Shape>(X<int>)", "Shape"),
        ("void kernel(int)", None),
    ],
)
def test_template_argument(signature, argument):
    assert ptxas.template_argument(signature) == argument


def test_loop_of_a_cluster_kernel():
    loop = loop_of(CLUSTER)
    assert loop.header == 0x60 and loop.inner == 0
    # From the wait round to the branch before it. Not: the slow path, what lies behind the loop, the other role.
    assert addresses(loop.way) == [
        *range(0x80, 0x130, 0x10), *range(0x150, 0x180, 0x10), *range(0x1A0, 0x210, 0x10), 0x60, 0x70,
    ]  # fmt: skip
    assert addresses(loop.other_way) == [
        *range(0x80, 0x100, 0x10), 0x130, 0x140, 0x150, 0x1F0, 0x200, 0x60, 0x70,
    ]  # fmt: skip
    assert loop.static == 30
    counts = sass.count(loop.way)
    assert {name: n for name, n in counts.items() if n} == {
        "HMMA": 4, "LDSM": 1, "LDS/STS": 1, "LDG/STG": 2, "push": 1, "SHFL": 1, "BAR": 1, "MUFU": 2,
        "other": 10, "total": 23,
    }  # fmt: skip
    assert sass.chain(loop.way) == 3
    assert loop.way[sass.critical(loop.way) - 1].opcode == "STAS.128"


def test_loop_of_a_grid_kernel():
    loop = loop_of(GRID)
    assert (loop.header, loop.inner, loop.static, loop.other_way) == (0x20, 1, 12, [])
    assert addresses(loop.way) == [*range(0x30, 0xE0, 0x10), 0x20]
    assert sass.count(loop.way)["MEMBAR/CCTL"] == 2


def test_without_products_there_is_no_loop_over_steps():
    assert loop_of(GRID.replace("HMMA", "FFMA")) is None


def test_an_indirect_branch_is_refused():
    with pytest.raises(ValueError, match="indirect branch"):
        loop_of(GRID.replace("BRA `(.L_x_1)", "BRX R2 -0x10"))


def kernel(**shape: int) -> ptxas.Kernel:
    return ptxas.Kernel("k", "sm_90a", 100, 0, 0, shape=shape)


def test_prediction_by_hand():
    """256 threads, half of them in each role: 2 warps a scheduler, 4 products each."""
    shape = {"kThreads": 256, "kSplit": 2, "kBlocks": 16, "kRows": 8, "kBufferBytes": 8192}
    p = kernel_model.predict(kernel(**shape), loop_of(CLUSTER), "cluster")
    assert p.products == 3 * kernel_model.MMA_LATENCY  # the chain; 8 products take 51 cycles
    assert p.issue == 1 * (17 - 4) + 1 * (15 - 4)
    assert (p.barriers, p.memory, p.exchange) == (60, (0, 0), (250, 350))
    assert p.microseconds == pytest.approx([(72 + 100 + 60 + n) / 1750 for n in (250, 350)])
    assert p.rounds == {1: 1, 16: 1, 64: 1, 256: 4}  # 8 clusters of 8 rows at once


def test_exchange_is_as_long_as_the_bytes_that_come_in():
    shape = {"kThreads": 128, "kInboxBytes": 64 * 1000}
    assert kernel_model.predict(kernel(**shape), loop_of(CLUSTER), "cluster").exchange == (1000, 1000)
    assert kernel_model.predict(kernel(**shape), loop_of(GRID), "grid").exchange == (1600, 1800)


def test_no_prediction_without_the_number_of_threads():
    assert kernel_model.predict(kernel(), loop_of(CLUSTER), "cluster") is None


def test_tables(tmp_path):
    source = tmp_path / "cluster_forward.cu"
    signature = "void cluster_forward<a::ClusterForwardShape<a::BFloat16, 512, 16, 2> >(a::Arguments)"
    with_code = kernel(kThreads=256, kHidden=512, kBlocks=16, kSharedBytes=20608)
    row = kernel_report.row(source, with_code, signature, CLUSTER)
    text = kernel_report.markdown([row], "tools")
    assert "predicted, nothing measured on hardware" in text.splitlines()[0]
    assert "| cluster_forward | sm_90a | BFloat16 512 16 2 | 256 | 100 | 0 | 0 | 0 | 20608 |" in text
    assert text.count("BFloat16 512 16 2") == 3 and ".5/.55/.75/1.4" in text
    bare = kernel_report.markdown([kernel_report.row(source, kernel(), signature, None)], "tools")
    assert "No nvdisasm was found" in bare and "| - | 100 | 0 | 0 | 0 | - |" in bare
