#!/usr/bin/env bash
# Draftwood on a GPU machine without network: install it beside what is there, then run run.py.
#
#   benchmarks/gpu/run.sh PREPARED OUT [OPTIONS OF run.py]
#
# PREPARED: the folder that prepare.py made. OUT: a folder for gpu.json and log.txt. A wheel in
# PREPARED is used where it can be imported; else the package is built from this checkout, which
# takes a compiler, scikit-build-core, nanobind, cmake and ninja. Nothing is put into the machine's
# own packages.
set -euo pipefail
cd "$(dirname "$0")/../.."
prepared=$1 out=$2
shift 2
python=${PYTHON:-python3}
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
mkdir -p "$out"

install() { "$python" -m pip install -q --no-deps --no-index --no-compile --target "$site" "$@"; }
works() { (cd / && PYTHONPATH=$site "$python" -c 'import draftwood._native, typer, rich'); }

wheel=$(find "$prepared" -name '*.whl' | head -n 1)
if [ -z "$wheel" ] || ! install "$wheel" || ! works; then
  echo "building from source" >&2
  rm -rf "${site:?}"/*
  install --no-build-isolation --config-settings=build-dir="$site/.build" .
  works
fi
export PYTHONPATH=$site PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
"$python" benchmarks/gpu/check.py 2>&1 | tee "$out/check.txt"  # stops here where it fails
"$python" benchmarks/gpu/run.py --prepared "$prepared" --out "$out/gpu.json" "$@" 2>&1 |
  tee "$out/log.txt"
