"""Builds the producer with the system's C compiler: once per version of its sources and of the compiler."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from labctl.errors import HardwareError
from labctl.state import cache_folder
from sim.virtual_lab.producer.camera_xml import generated_sources

PRODUCER_NAME = "labctl.cti"
WARNINGS = ("-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wshadow")
OPTIMISED = ("-O3", "-fPIC", "-shared", "-fvisibility=hidden")
LIBRARIES = ("-lpthread", "-lm", "-ldl")

_SOURCE = Path(__file__).parent / "source"


def build_producer(folder: Path | None = None) -> Path:
    """Path of the built producer, alone in its folder, so that the folder can be put into GENICAM_GENTL64_PATH.

    folder: where builds are kept; labctl's cache when not given. Several processes may build at once.
    Raises HardwareError when there is no C compiler, or when it refuses the sources.
    """
    compiler = find_compiler()
    kept = cache_folder("producer") if folder is None else folder
    target = kept / _fingerprint(compiler) / PRODUCER_NAME
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept, prefix="building-") as workshop:
        built = Path(workshop) / PRODUCER_NAME
        compile_c(compiler, write_sources(Path(workshop)), built, OPTIMISED, include=Path(workshop))
        built.replace(target)
    return target


def find_compiler() -> str:
    """Path of the C compiler: the one that CC names, else cc, gcc or clang. Raises HardwareError when there is none."""
    named = os.environ.get("CC")
    for candidate in (named,) if named else ("cc", "gcc", "clang"):
        found = shutil.which(candidate)
        if found:
            return found
    looked = f"CC={named} is not there" if named else "none of cc, gcc, clang is installed"
    raise HardwareError(
        f"the virtual lab's camera needs a C compiler, and {looked}; install one (apt install gcc libc6-dev)"
    )


def write_sources(folder: Path) -> list[Path]:
    """Writes the generated C files into `folder`; returns all .c files of the producer."""
    for name, text in generated_sources().items():
        (folder / name).write_text(text, encoding="utf-8")
    return [*sorted(_SOURCE.glob("*.c")), *sorted(folder.glob("*.c"))]


def compile_c(compiler: str, sources: Sequence[Path], target: Path, flags: Sequence[str], *, include: Path) -> None:
    """Compiles and links `sources` into `target`; `include` holds the generated headers."""
    command = [compiler, *WARNINGS, *flags, f"-I{_SOURCE}", f"-I{include}", *map(str, sources), "-o", str(target)]
    done = subprocess.run([*command, *LIBRARIES], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HardwareError(f"{compiler} cannot build the virtual lab's camera; it says:\n{done.stderr.strip()}")


def _fingerprint(compiler: str) -> str:
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout
    digest = hashlib.sha256(repr((compiler, version, WARNINGS, OPTIMISED, LIBRARIES)).encode())
    texts = {path.name: path.read_text(encoding="utf-8") for path in _SOURCE.iterdir() if path.suffix in (".c", ".h")}
    for name, text in sorted((texts | generated_sources()).items()):
        digest.update(f"{name}\0{text}\0".encode())
    return digest.hexdigest()[:20]
