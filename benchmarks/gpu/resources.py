"""Registers, stack and shared memory of the kernels, compiled for a card (9.0: H100, H200) that need not be there.

python -m benchmarks.gpu.resources [--quick]
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from benchmarks.gpu.bare import use_bare_packages

os.environ.pop("TRITON_INTERPRET", None)
use_bare_packages(interpret=False)

from nda_index.coarse.gpu_scan import TUNING as SCAN  # noqa: E402
from nda_index.coarse.gpu_scan import pad_coordinates  # noqa: E402
from nda_index.exact.gpu_launch import PIECE, TUNING, spare_registers, split_coordinates  # noqa: E402

POINTERS = {
    "*fp16": ("images", "query", "low"),
    "*fp32": ("units", "reference", "masses", "codebook", "vectors", "weights", "highest", "sums"),
    "*i32": (
        "starts",
        "train_classes",
        "offsets",
        "query_classes",
        "first",
        "last",
        "possible",
        "ordered",
        "work",
        "image_ids",
    ),
    "*u8": ("codes", "allowed"),
    "*i64": ("votes", "even"),
    "*fp64": ("shares",),
    "fp32": ("norm_step", "room", "unmatched", "middle"),
}


def compile_kernel(kernel: Any, constants: dict[str, Any], how: Any, **types: str) -> dict[str, int]:
    """Compile a kernel and return what it takes: registers of a thread, bytes of stack and of shared memory."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    known = {name: kind for kind, names in POINTERS.items() for name in names} | types
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else known.get(name, "i32") for name in names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if signature[name].startswith("*")}
    source = ASTSource(kernel, signature, {(names.index(k),): v for k, v in constants.items()}, aligned)
    registers = getattr(how, "registers", 0)
    options = {"num_warps": how.warps, "num_stages": how.stages} | ({"maxnreg": registers} if registers else {})
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(compiled.asm["cubin"])
        text = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    used = {key: int(value) for key, value in re.findall(r"(REG|STACK):(\d+)", text)}
    return {"registers": used["REG"], "stack": used["STACK"], "shared": compiled.metadata.shared}


def compile_all(counts: Sequence[int]) -> Iterator[tuple[str, dict[str, int]]]:
    """Compile the kernels of windows with some numbers of coordinates as they are launched."""
    from nda_index.exact import gpu_kernels

    for count in counts:
        kept = split_coordinates(count)
        for low in (False, True):
            for name, how in (("inside", TUNING.inside), ("border", TUNING.border)):
                constants = {
                    "BP": TUNING.query_tile, "BQ": how.tile, "LOW": low, "MASKED": name == "border", "NEAREST": False,
                }  # fmt: skip
                label = f"{count} coordinates, {name}, {'noisy' if low else 'clean'}"
                if kept[0]:
                    constants |= {"COUNT": count, "KA": kept[0], "KB": kept[1]}
                    fit = spare_registers(how, kept, inside=name == "inside")
                    yield label, compile_kernel(gpu_kernels.sweep, constants, fit, out="*fp32")
                elif name == "border":
                    constants |= {"KC": PIECE}
                    free = spare_registers(how, kept, inside=False)
                    yield label, compile_kernel(gpu_kernels.sweep_pieces, constants, free, out="*fp32")


def compile_scans(counts: Sequence[int]) -> Iterator[tuple[str, dict[str, int]]]:
    """Compile the kernels over members of inverted lists with some numbers of coordinates as they are launched."""
    from nda_index.coarse import gpu_kernels

    for count in counts:
        for width in (1, 2):
            for precision in ("ieee", "tf32x3"):
                constants = {
                    "D": count, "K": pad_coordinates(count), "BYTES": count // width, "BY_COORDINATE": width == 1,
                    "MASKED": True, "BW": SCAN.windows, "BM": SCAN.members, "PRECISION": precision,
                }  # fmt: skip
                label = f"{count} coordinates, {'bytes' if width == 1 else 'pq'}, {precision}"
                yield f"{label}, sums", compile_kernel(gpu_kernels.sum_visits, constants, SCAN)
                yield f"{label}, votes", compile_kernel(gpu_kernels.add_votes, constants, SCAN)
    yield "evenly", compile_kernel(gpu_kernels.add_evenly, {"MASKED": True, "BM": SCAN.members}, SCAN)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each kernel."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--quick", action="store_true", help="patches 7 and 14/2 in colour, and lists of 28 coordinates, alone"
    )
    quick = parser.parse_args(arguments).quick
    scans = compile_scans((28,) if quick else (16, 28, 48))
    for name, used in chain(compile_all((147,) if quick else (9, 27, 48, 147, 201, 1200)), scans):
        print(f"{name:<36}" + "".join(f"{value:>8} {key}" for key, value in used.items()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
