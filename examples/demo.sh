#!/usr/bin/env bash
# The main job end to end on recordings that this project made with ROS 1's own recorder:
# bags -> episodes -> statistics -> a trained policy -> a replay of an episode it has never seen.
# Everything it makes lies in ./demo (or $DEMO_DIR), the registry included.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${DEMO_DIR:-demo}
steps=${DEMO_STEPS:-150}
rm -rf "$out"
mkdir -p "$out"
ACT_REGISTRY=$(cd "$out" && pwd)/registry.db
export ACT_REGISTRY
began=$SECONDS

run() {
    printf '\n\033[1m$ %s\033[0m\n' "$*"
    "$@"
}

echo "8 recorded demonstrations of a two-armed robot reaching for a target, 4 s each:"
ls -sh examples/bags/*.bag

run act-data ingest examples/bags --out "$out/reach.zarr" --task "reach the target"
run act-data stats "$out/reach.zarr"
run act-data verify reach
run act-model train reach --out "$out/run" --size tiny --steps "$steps" --chunk 30 \
    --image-size 48x64 --val-every 50
run act-model deploy --log "$out/actions.jsonl"

cat <<TEXT

Done in $((SECONDS - began)) s. A tiny network, $steps steps from random weights: enough to see the whole
path move and the policy follow a demonstrator it never saw, not enough for a robot.

What is there now:
  $out/reach.zarr           the dataset: plain zarr.open reads it; act-data show reach
  $out/reach.stats.json     mean, std, min, max, quantiles of every dimension
  $out/run/best             the checkpoint: safetensors and JSON
  $out/run/metrics.jsonl    losses and held-out errors by step
  $out/actions.jsonl        every action of the replay, raw, filtered and demonstrated

Where to look next (with ACT_REGISTRY=$out/registry.db):
  act-data show reach
  act-model evaluate
  act-model deploy --mode shadow --chunks ensemble
  act-model deploy --source examples/bags/reach_00.bag
  act-data ingest YOUR_BAGS/ --out yours.zarr      README.md says how to describe your robot
TEXT
