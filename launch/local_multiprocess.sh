#!/usr/bin/env bash
# Several processes on this machine: to try a run of several hosts, or one
# process for each GPU (process i gets GPU i). Needs bash 4.3.
#
#   launch/local_multiprocess.sh [--dry-run] NUM_PROCESSES TRAIN_FLAGS...
#   launch/local_multiprocess.sh 2 --config=configs/solov2_shapes.py --workdir=workdirs/two
#
# Output of process i goes to WORKDIR.process<i>.log (for a workdir in a bucket:
# to a file named after its last part in the current folder); that of process 0
# also goes to the terminal. When a process fails, the others are stopped, and
# this script exits with its exit code. After Ctrl-C or SIGTERM it waits until
# they have saved.
set -euo pipefail
dry_run=false
if [[ ${1:-} == --dry-run ]]; then
  dry_run=true
  shift
fi
if [[ ! ${1:-} =~ ^[1-9][0-9]*$ || $# -lt 2 ]]; then
  echo "usage: $0 [--dry-run] NUM_PROCESSES --config=... --workdir=..." >&2
  exit 2
fi
num_processes=$1
shift
workdir=run
for argument in "$@"; do
  [[ $argument == --workdir=* ]] && workdir=${argument#--workdir=}
done
logs=$workdir
if [[ $logs == *://* ]]; then
  logs=$(basename "$logs")
fi
port=${PORT:-$((20000 + RANDOM % 20000))}

pids=()
tee=
end_all() { kill "${pids[@]}" 2>/dev/null || true; }
stop() {
  end_all
  wait || true # they save first; a second signal is passed on and stops them
  exit "$1"
}
trap end_all EXIT
trap 'stop 143' TERM
trap 'stop 130' INT
set -m # so Ctrl-C reaches this script alone, and each process one signal

for ((i = 0; i < num_processes; i++)); do
  command=(env "JAX_LOCAL_DEVICE_IDS=$i" "${PYTHON:-python}" -m solo_jax.train
    "$@" "--coordinator=localhost:$port" "--num_processes=$num_processes"
    "--process_id=$i")
  if $dry_run; then
    printf '%q ' "${command[@]}"
    echo
    continue
  fi
  mkdir -p "$(dirname "$logs")"
  log=$logs.process$i.log
  if ((i == 0)); then
    exec {terminal}> >(trap '' INT TERM && tee "$log")
    tee=$!
    "${command[@]}" >&"$terminal" 2>&1 &
    exec {terminal}>&-
  else
    "${command[@]}" >"$log" 2>&1 &
  fi
  pids+=($!)
done
for _ in "${pids[@]}"; do
  wait -n || {
    code=$?
    echo "a process failed (exit code $code), see $logs.process*.log" >&2
    exit "$code"
  }
done
if [[ $tee ]]; then
  wait "$tee" # until the log is complete
fi
