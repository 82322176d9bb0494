#!/usr/bin/env bash
# One part of the benchmarks on a GPU: gpu.sh --part train|decode|peers. Needs torch, NumPy, safetensors and tokenizers.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PYTHONPATH="$here/../src${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python}" "$here/gpu.py" "$@"
