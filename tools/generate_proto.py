"""Generate the Python code of ``proto/``, or check that what is committed is what it generates.

    python tools/generate_proto.py            write next to the .proto files
    python tools/generate_proto.py --check    exit 1 and name the files that differ

Needs the dependency group ``proto``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1] / "proto"
PATTERNS: Final = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


def generate(out: Path) -> None:
    """Run protoc with the Python, gRPC and mypy plugins over every file of ``proto/``."""
    sources = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.proto"))
    tools = Path(sys.executable).parent
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"--proto_path={ROOT}",
            f"--plugin=protoc-gen-mypy={tools / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={tools / 'protoc-gen-mypy_grpc'}",
            f"--python_out={out}",
            f"--grpc_python_out={out}",
            f"--mypy_out=quiet:{out}",
            f"--mypy_grpc_out=quiet:{out}",
            *sources,
        ],
        check=True,
    )


def generated(folder: Path) -> dict[str, bytes]:
    """Return the generated files below ``folder``, by relative path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for pattern in PATTERNS
        for path in folder.rglob(pattern)
    }


def drifted(committed: dict[str, bytes], fresh: dict[str, bytes]) -> list[str]:
    """Return the paths that are missing, left over or different, sorted."""
    return sorted(
        path for path in committed.keys() | fresh.keys() if committed.get(path) != fresh.get(path)
    )


def main() -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only compare with what is committed")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        generate(out)
        fresh = generated(out)
    committed = generated(ROOT)
    if check:
        stale = drifted(committed, fresh)
        for path in stale:
            print(f"error: proto/{path} is not what the .proto files generate", file=sys.stderr)
        if stale:
            print("hint: run `make proto`", file=sys.stderr)
        return int(bool(stale))
    for path in committed.keys() - fresh.keys():
        (ROOT / path).unlink()
    for path, content in fresh.items():
        (ROOT / path).write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
