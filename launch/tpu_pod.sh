#!/usr/bin/env bash
# The same command on every host of a Cloud TPU slice; JAX finds the others.
#
#   launch/tpu_pod.sh [--dry-run] TPU_NAME ZONE TRAIN_FLAGS...
#   launch/tpu_pod.sh my-v5e-64 us-west4-a --config=configs/solov2_coco.py \
#       --config.dataset.data_dir=gs://bucket/data --workdir=gs://bucket/runs/solov2
#
# The hosts need the package: run once
#   gcloud compute tpus tpu-vm ssh TPU_NAME --zone=ZONE --worker=all \
#       --command="pip install 'solo_jax[tpu] @ git+REPOSITORY'"
set -euo pipefail
run=()
if [[ ${1:-} == --dry-run ]]; then
  shift
  run=(echo)
fi
if [[ $# -lt 3 ]]; then
  echo "usage: $0 [--dry-run] TPU_NAME ZONE --config=... --workdir=gs://..." >&2
  exit 2
fi
name=$1 zone=$2
shift 2
printf -v flags ' %q' "$@"
"${run[@]}" gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all \
  --command="python3 -m solo_jax.train --distributed$flags"
