#!/usr/bin/env bash
# The shipped model and its siblings: the same tokens, the same steps, the same seed, on two centuries of speeches.
#   npm run build && recipes/sotu.sh <folder> [webgpu|cpu]
# It leaves the model in <folder>/sotu-hybrid and the runs in <folder>/{hybrid,transformer,ssm}.
set -euo pipefail
out=${1:?where the runs go}
device=${2:-webgpu}
main="$(dirname "$0")/../dist/cli/main.js"
heddle() { node "$main" "$@"; }
for design in hybrid transformer ssm; do
  heddle train sotu --out "$out/$design" --design "$design" --size small --vocab 4096 --validation 0.05 \
    --steps 1000 --batch 16 --sequence 512 --learning-rate 2e-3 --warmup 100 --seed 1 \
    --evaluate-every 100 --save-every 500 --device "$device"
done
heddle export "$out/hybrid/checkpoint" "$out/sotu-hybrid" --dtype float16
heddle compare "$out"/{hybrid,transformer,ssm}
