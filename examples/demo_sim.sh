#!/usr/bin/env bash
# A policy that learns to hand a cube from arm to arm, in simulation, in a few minutes on a CPU:
# demonstrations -> bags -> episodes -> statistics -> training -> the simulator, on cubes it never
# saw. It observes its joints and the place of the cube; with DEMO_PIXELS=1 a camera instead.
# Everything it makes lies in ./demo (or $DEMO_DIR), the registry included.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${DEMO_DIR:-demo}
seed=${DEMO_SEED:-0}
jobs=${DEMO_JOBS:-2}
if [ -n "${DEMO_PIXELS:-}" ]; then
    what="a picture of 120x160"
    steps=${DEMO_STEPS:-2400}
    demos=${DEMO_DEMOS:-50}
    see=(--cameras top --size 120x160)
    config=examples/sim_pixels.yaml
else
    what="the place of the cube"
    steps=${DEMO_STEPS:-2000}
    demos=${DEMO_DEMOS:-50}
    see=()
    config=examples/sim_state.yaml
fi
trials=${DEMO_TRIALS:-20}
rm -rf "$out"
mkdir -p "$out"
ACT_REGISTRY=$(cd "$out" && pwd)/registry.db
export ACT_REGISTRY
began=$SECONDS

run() {
    printf '\n\033[1m$ %s\033[0m\n' "$*"
    "$@"
}

run act-model simulate transfer_cube --out "$out/bags" --episodes "$demos" "${see[@]}" --jobs "$jobs"
run act-data ingest "$out/bags" --out "$out/cube.zarr" --jobs "$jobs" | tail -1
run act-data stats "$out/cube.zarr"
run act-model train cube --out "$out/run" --size tiny --config "$config" --steps "$steps" --seed "$seed"
run act-model evaluate "$out/run" --sim transfer_cube --episodes "$trials" --chunks ensemble \
    --jobs "$jobs" --page "$out/report"

cat <<TEXT

Done in $((SECONDS - began)) s. $steps steps of a tiny network from random weights, on $demos scripted
demonstrations; it sees its joints and $what. The cubes of the test lay where none did in training.
Nobody's robot is like a simulator: this shows that the whole path learns, and how to measure it.

What is there now:
  $out/bags                 the demonstrations: ROS 2 MCAP, with their annotations beside them
  $out/cube.zarr            the dataset they became; act-data show cube
  $out/run/best             the checkpoint
  $out/report/index.html    success with intervals, where it failed, and videos where it can draw

Where to look next (with ACT_REGISTRY=$out/registry.db):
  act-model evaluate $out/run --sim transfer_cube --realism bad --chunks open-loop --chunks ensemble
  act-model simulate insertion --out pegs/ --episodes 50
  act-model truth $out/cube.zarr
TEXT
