#!/usr/bin/env bash
# The same command on every host of a Cloud TPU slice; JAX finds the others.
#
#   launch/tpu_pod.sh [--dry-run] TPU_NAME ZONE TRAIN_FLAGS...
#   launch/tpu_pod.sh my-v5e-64 us-west4-a --config=configs/solov2_coco.py \
#       --config.dataset.data_dir=gs://bucket/data --workdir=gs://bucket/runs/solov2
#
# Each host needs a clone of the repository, in the home directory or where
# DIRECTORY points, and the package: run once
#
#   gcloud compute tpus tpu-vm ssh TPU_NAME --zone=ZONE --worker=all --command=\
#       "git clone REPOSITORY solo_jax && cd solo_jax && pip install -e '.[tpu,gcs]'"
#
# The run stops with the connection: start it in tmux. The same command resumes
# from the last checkpoint.
set -euo pipefail
dry_run=false
if [[ ${1:-} == --dry-run ]]; then
  dry_run=true
  shift
fi
if [[ $# -lt 4 ]]; then
  echo "usage: $0 [--dry-run] TPU_NAME ZONE --config=... --workdir=gs://..." >&2
  exit 2
fi
name=$1 zone=$2
shift 2
printf -v remote '%q ' cd "${DIRECTORY:-solo_jax}"
printf -v train '%q ' "${PYTHON:-python3}" -m solo_jax.train --distributed "$@"
command=(gcloud compute tpus tpu-vm ssh "$name" "--zone=$zone" --worker=all
  "--command=$remote&& ${train% }")
if $dry_run; then
  printf '%q ' "${command[@]}"
  echo
  exit
fi
exec "${command[@]}"
