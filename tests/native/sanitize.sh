#!/bin/sh
# Builds the kernel with the address and undefined behaviour sanitisers and runs its tests on it.
#
#     tests/native/sanitize.sh [pytest arguments]
#
# With the loops that every machine runs, and with those over vectors of 8 and 16 words (lanes.hpp)
# where the processor has AVX2 and AVX-512; UNDERSEAL_FORMS="1 8" picks some. Needs GCC (for libasan)
# and the project's virtual environment, or PYTHON=/path/to/python. Leaves the normal build alone:
# everything goes to build/sanitize.
set -eu

cd "$(dirname "$0")/../.."
python=$(command -v "${PYTHON:-.venv/bin/python}")
compiler=${CXX:-g++}
out=$PWD/build/sanitize
overlay=$out/core/underseal_core

case $python in /*) ;; *) python=$PWD/$python ;; esac
PATH=$(dirname "$python"):$PATH
export PATH

# Python itself leaks by design. libstdc++ is preloaded because the exception interceptor of
# libasan looks for it when the process starts.
export ASAN_OPTIONS=detect_leaks=0:strict_string_checks=1:detect_stack_use_after_return=1
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
# -S and this path instead of an editable install's import hook, which would find the normal build.
packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
export PYTHONPATH="$out/core:$PWD:$PWD/auditor:$PWD/client:$PWD/proto:$PWD/server:$packages"
export UNDERSEAL_SANITIZED=1
runtime="$("$compiler" -print-file-name=libasan.so) $("$compiler" -print-file-name=libstdc++.so)"

if [ "$(uname -m)" = x86_64 ]; then forms="1 8 16"; else forms=1; fi
for form in ${UNDERSEAL_FORMS:-$forms}; do
    cmake -S . -B "$out/$form" -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_COMPILER="$compiler" \
        -DPython_EXECUTABLE="$python" -DUNDERSEAL_SANITIZE=$form >/dev/null
    cmake --build "$out/$form" --parallel 2 >/dev/null

    # The package as it is, but with the instrumented module in it.
    rm -rf "$out/core"
    mkdir -p "$overlay/ring"
    for entry in core/underseal_core/*; do
        [ "$(basename "$entry")" = ring ] || ln -s "$PWD/$entry" "$overlay/"
    done
    ln -s "$PWD"/core/underseal_core/ring/*.py "$overlay/ring/"
    cp "$out/$form"/_kernel*.so "$overlay/ring/"

    echo "vectors of up to $form words"
    LD_PRELOAD=$runtime "$python" -S -m pytest -p no:cacheprovider --capture=sys -q \
        tests/native tests/unit/core/test_ring_kernel.py \
        tests/unit/core/test_ring_score.py tests/property/test_ring_arithmetic.py \
        tests/property/test_packing.py \
        tests/unit/core/test_evaluation_seal.py tests/unit/core/test_evaluation.py "$@"
done
