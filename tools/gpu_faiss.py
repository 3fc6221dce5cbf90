"""FAISS for CUDA, made so small that it travels: for trials on a machine whose torch has a newer CUDA, not for users.

The wheel faiss-gpu needs CUDA 12's libraries, 700 MB. Here machine code of other cards, which is never loaded, becomes
zeros that compress to nothing; libcudart.so.12 comes along; and libcublas.so.12 is a small library that hands the eight
functions that FAISS calls on to the libcublas.so.13 that torch has loaded. So `import torch` has to come first.
"""

from __future__ import annotations

import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ARCHIVE = "faiss_gpu.tar.xz"
FUNCTIONS = [
    "Create_v2", "Destroy_v2", "GemmEx", "GemmStridedBatchedEx",
    "GetMathMode", "SetMathMode", "SetStream_v2", "SgemmEx",
]  # fmt: skip
FATBIN = struct.pack("<I", 0xBA55ED50)  # begins machine code for several cards
HEAD = 16  # bytes of such a beginning
MACHINE_CODE = 2  # the kind of an entry; 1 is PTX
PYTHON = "3.12"  # of the wheel, where pip fetches it
LIBRARIES = "faiss_gpu.libs"  # where the wheel keeps the libraries it brings along


def pack_faiss(folder: Path, wheel: Path | None, arch: int) -> None:
    """Write `ARCHIVE` to a folder; the wheel is fetched by pip where none is given.

    Raises:
        subprocess.CalledProcessError: pip or gcc failed, and said why.
    """
    with tempfile.TemporaryDirectory() as scratch:
        site = Path(scratch, "site")
        zipfile.ZipFile(wheel or fetch_wheel("faiss-gpu", Path(scratch))).extractall(site)
        with zipfile.ZipFile(fetch_wheel("nvidia-cuda-runtime-cu12", Path(scratch))) as runtime:
            name = next(name for name in runtime.namelist() if name.endswith("libcudart.so.12"))
            site.joinpath(LIBRARIES, "libcudart.so.12").write_bytes(runtime.read(name))
        site.joinpath("faiss", "_gpu_build.py").unlink(missing_ok=True)  # it looks for CUDA 12's wheels
        library = site / "faiss" / "libfaiss.so"
        library.write_bytes(keep_machine_code(library.read_bytes(), arch))
        build_forwarder(site / LIBRARIES)
        with tarfile.open(folder / ARCHIVE, "w:xz", preset=6) as archive:
            for name in ("faiss", LIBRARIES):
                archive.add(site / name, name)


def fetch_wheel(project: str, folder: Path) -> Path:
    """Have pip download a project's wheel for Linux on x86-64."""
    platforms = [*(f"--platform=manylinux_2_{n}_x86_64" for n in (28, 27, 17)), "--platform=manylinux2014_x86_64"]
    target = folder / project
    subprocess.run(
        [
            sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
            f"--python-version={PYTHON}", *platforms, f"--dest={target}", project,
        ],
        check=True,
    )  # fmt: skip
    return next(target.glob("*.whl"))


def keep_machine_code(library: bytes, arch: int) -> bytes:
    """Return a library whose machine code for other cards than one is zeros.

    Each fatbin has a head (magic, version, its length, the length of what follows) and entries of their own head (kind,
    version, its length, the length of the code, and at 28 the card).
    """
    data = bytearray(library)
    begin = 0
    while (begin := data.find(FATBIN, begin)) >= 0:
        head, size = struct.unpack_from("<HQ", data, begin + 6)
        at, end = begin + HEAD, begin + HEAD + size
        begin += 4
        if head != HEAD or end > len(data):
            continue  # the same four bytes by chance
        while at < end:
            kind, _, entry, length = struct.unpack_from("<HHIQ", data, at)
            (card,) = struct.unpack_from("<I", data, at + 28)
            if (kind, card) != (MACHINE_CODE, arch):
                data[at + entry : at + entry + length] = bytes(length)
            at += entry + length
        begin = end
    return bytes(data)


def build_forwarder(libraries: Path) -> None:
    """Compile libcublas.so.12, which hands calls on to libcublas.so.13, and an empty libcublasLt.so.12."""
    jump = "movq target{i}@GOTPCREL(%rip), %r11\\n jmp *(%r11)\\n"
    lines = ["#include <dlfcn.h>", "#include <stdio.h>"]
    for i, name in enumerate(FUNCTIONS):
        symbol = f"cublas{name}"
        code = f".globl {symbol}\\n.type {symbol},@function\\n{symbol}:\\n {jump.format(i=i)}"
        lines += [f"void *target{i};", f'__asm__("{code}");']
    lines += [
        "__attribute__((constructor)) static void find(void) {",
        ' void *there = dlopen("libcublas.so.13", RTLD_NOW | RTLD_GLOBAL);',
        " if (!there) {",
        '  fprintf(stderr, "libcublas.so.13 is not loaded (import torch first): %s\\n", dlerror());',
        "  return;",
        " }",
        *(f' target{i} = dlsym(there, "cublas{name}");' for i, name in enumerate(FUNCTIONS)),
        "}",
    ]
    compile_library(libraries, "libcublas.so.12", "\n".join(lines) + "\n", "cublas*")
    compile_library(libraries, "libcublasLt.so.12", "int faiss_needs_nothing;\n", "faiss_needs_nothing")


def compile_library(folder: Path, name: str, code: str, exported: str) -> None:
    """Compile a library that exports symbols under the version that its name is."""
    with tempfile.TemporaryDirectory() as scratch:
        source, versions = Path(scratch, "library.c"), Path(scratch, "versions.map")
        source.write_text(code)
        versions.write_text(f"{name} {{ global: {exported}; local: *; }};\n")
        subprocess.run(
            [
                "gcc", "-shared", "-fPIC", "-O1", str(source), "-o", str(folder / name), f"-Wl,-soname,{name}",
                f"-Wl,--version-script={versions}", "-ldl",
            ],
            check=True,
        )  # fmt: skip
