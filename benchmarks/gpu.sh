#!/usr/bin/env bash
# Sets up what benchmarks/gpu.py needs on a machine without a network, and runs it; all options but --wheels are passed on.
#
#     bash benchmarks/gpu.sh --out gpu.json [--wheels DIR] [--only PARTS] [--device cpu --tiny]
#
# $PYTHON (python3) must have PyTorch: its wheels with CUDA are too large to carry. Of the other packages, those that it
# lacks are installed from the wheels in DIR, into a folder that is deleted at the end.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
wheels=
options=()
while [ $# -gt 0 ]; do
  case $1 in
    --wheels) wheels=${2:?--wheels wants a folder}; shift 2 ;;
    *) options+=("$1"); shift ;;
  esac
done

missing() {
  "$python" - <<'END'
from importlib.util import find_spec

MODULES = {
    "av": "av", "click": "click", "ffmpeg": "ffmpeg-python", "past": "future", "fsspec": "fsspec", "numpy": "numpy",
    "pandas": "pandas", "pyarrow": "pyarrow", "rapidfuzz": "rapidfuzz", "rich": "rich", "safetensors": "safetensors",
    "simplejpeg": "simplejpeg", "torch": "torch", "yaml": "PyYAML",
}
print(*(name for module, name in MODULES.items() if find_spec(module) is None))
END
}

site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
export PYTHONPATH="$repo:$site${PYTHONPATH:+:$PYTHONPATH}"
lacking=$(missing)
case " $lacking " in
  *" torch "*) echo "$python has no PyTorch, which is too large to carry: PYTHON=… names one that has it" >&2; exit 2 ;;
esac
if [ -n "$lacking" ] && [ -n "$wheels" ]; then
  # shellcheck disable=SC2086  # a list of names
  "$python" -m pip install -q --disable-pip-version-check --no-index --no-deps --no-compile --find-links "$wheels" \
    --target "$site" $lacking || true
  lacking=$(missing)
fi
if [ -n "$lacking" ]; then
  echo "$python lacks: $lacking; put their wheels into a folder and give it with --wheels" >&2
  exit 2
fi
"$python" "$repo/benchmarks/gpu.py" "${options[@]}"
