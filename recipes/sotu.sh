#!/usr/bin/env bash
# The shipped model and its siblings: the same tokens, the same steps, the same seed, on two centuries of speeches.
#   recipes/sotu.sh <folder> [cpu|webgpu]
# About 7 minutes for all three on an NVIDIA H200 through WebGPU; a day on two CPU cores.
set -euo pipefail
out=${1:?where the runs go}
device=${2:-webgpu}
heddle="node $(dirname "$0")/../dist/cli/main.js"
for design in hybrid transformer ssm; do
  $heddle train sotu --out "$out/$design" --design $design --size small --vocab 4096 --validation 0.05 \
    --steps 1600 --batch 16 --sequence 512 --learning-rate 2e-3 --warmup 100 --seed 1 \
    --evaluate-every 200 --save-every 600 --device "$device" &
done
wait
