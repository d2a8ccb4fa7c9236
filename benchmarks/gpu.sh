#!/usr/bin/env bash
# Measure an accelerator from a bare machine, in steps of less than ten minutes.
#
#     benchmarks/gpu.sh list                 the steps
#     benchmarks/gpu.sh STEP                 one step; repeated, it continues the tables and begins any other step again
#     benchmarks/gpu.sh all                  all steps that are not done
#     benchmarks/gpu.sh commands STEP        the commands of a step, without running them
#
# Environment:
#     WHEELS=DIR     installs from wheels in a folder, without a network; otherwise from the package index
#     PYTHON=python3 makes the environment; VENV=.venv-gpu names it; VENV= (empty) uses PYTHON as it is
#     DATA=DIR       data sets that TFDS prepared: mnist and fashion_mnist
#     RESULTS=benchmarks/results/gpu         JSON files, and STEP.done for each step that is done
#     LIMIT=570      seconds of a step
#     SMALL=1        small sizes on the embedded digits and the CPU, to try every step
#
# Seconds to 94 % on CIFAR-10 are not measured: the project has no recipe that reaches them.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
VENV=${VENV-.venv-gpu}
RESULTS=${RESULTS:-benchmarks/results/gpu}
LIMIT=${LIMIT:-570}
SMALL=${SMALL:-}
run=$PYTHON
[ -z "$VENV" ] || run=$VENV/bin/python

networks='lenet5_half lenet5 alexnet_half alexnet'
precisions='float32 bfloat16'
tables_of='mnist fashion_mnist'
dataset=mnist
sizes=(--rounds=5)
epochs=(--epochs=7)
seeds=5
reproduce=(--tables=2,6,7)
if [ -n "$SMALL" ]; then
  export JAX_PLATFORMS=cpu
  networks='lenet5_half'
  tables_of='digits'
  dataset=digits
  sizes=(--rounds=1 --batch_size=64)
  epochs=(--epochs=2)
  seeds=2
  reproduce=(--tables=6 --epochs_scale=0.005 --config.dataset.examples=128 --config.batch_size=64)
fi
data=()
[ -z "${DATA:-}" ] || data=(--data_dir="$DATA")

steps() {
  echo install
  for network in $networks; do
    for precision in $precisions; do echo "step_${network}_$precision"; done
    echo "step_${network}_graphs"
    echo "profile_$network"
    echo "seeds_$network"
  done
  echo epoch
  echo memory
  echo scaling
  for name in $tables_of; do echo "tables_$name"; done
}

benchmark() {  # NAME SUITE [ARGUMENT ...]
  local name=$1 suite=$2
  shift 2
  echo "$run" launch/benchmark.py --suite="$suite" "${sizes[@]}" "$@" --output="$RESULTS/$name.json"
}

commands() {  # STEP
  local name=$1 rest
  case $name in
    install)
      [ -n "$VENV" ] || return 0
      echo "$PYTHON" -m venv "$VENV"
      if [ -n "${WHEELS:-}" ]; then
        echo "$run" -m pip install --no-index --find-links="$WHEELS" setuptools
        echo "$run" -m pip install --no-index --find-links="$WHEELS" --no-build-isolation -e "'.[cuda,peer]'"
      else
        echo "$run" -m pip install --constraint=constraints.txt -e "'.[cuda,peer]'"
      fi
      ;;
    step_*_graphs)
      rest=${name#step_}
      benchmark "$name" step --networks="${rest%_graphs}" --methods=cckd_t --peer=torch_graphs
      ;;
    step_*_float32)
      rest=${name#step_}
      benchmark "$name" step --networks="${rest%_float32}" --methods=separate,cckd_t --peer=torch
      ;;
    step_*_bfloat16)
      rest=${name#step_}
      benchmark "$name" step --networks="${rest%_bfloat16}" --methods=cckd_t --precision=bfloat16
      ;;
    seeds_*) benchmark "$name" seeds --networks="${name#seeds_}" ;;
    profile_*) benchmark "$name" profile --networks="${name#profile_}" ;;
    epoch) benchmark "$name" epoch --dataset=$dataset "${epochs[@]}" --peer=torch "${data[@]}" ;;
    memory) benchmark "$name" memory --networks="${networks// /,}" --dataset=$dataset "${data[@]}" ;;
    scaling) benchmark "$name" scaling ;;
    tables_*)
      # Finished runs are kept, so that each call continues where the one before it stopped.
      echo "$run" launch/reproduce.py "${reproduce[@]}" --datasets="${name#tables_}" --seeds=$seeds \
        --workdir="$RESULTS/$name" "${data[@]}"
      ;;
    *)
      echo "error: no step $name; see benchmarks/gpu.sh list" >&2
      return 2
      ;;
  esac
}

step() {  # NAME
  local name=$1 lines status=0
  lines=$(commands "$name")
  if [ -e "$RESULTS/$name.done" ]; then
    echo "$name is done"
    return
  fi
  mkdir -p "$RESULTS"
  echo "$name: at most $LIMIT s"
  printf '%s\n' "$lines"
  timeout --signal=TERM --kill-after=20 "$LIMIT" bash -euc "$lines" || status=$?
  if [ "$status" = 124 ]; then
    echo "$name ran out of time; repeat the command, with a higher LIMIT unless it is a step of tables" >&2
  fi
  [ "$status" = 0 ] || return "$status"
  touch "$RESULTS/$name.done"
}

case ${1:-} in
  list) steps ;;
  all) for name in $(steps); do step "$name"; done ;;
  commands) commands "${2:?name a step}" ;;
  '' | -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" ;;
  *) step "$1" ;;
esac
