#!/usr/bin/env bash
# Scores one shard with a vLLM server of its own, on this machine. Run again, it goes on; a finished shard starts nothing.
#
#     INPUT=responses.jsonl PARENT=/shared/run MODEL=Qwen/Qwen3-4B ./score_shard.sh 3/8 --no-thinking
#
# Further arguments are options of 'flip-reward score', VLLM_OPTIONS those of 'vllm serve'. Where the machines share
# nothing but a bucket, PARENT is a folder on the local disk and BUCKET the place of its copy: where the bucket is
# mounted. Files are copied there whole, for a mounted bucket has no locks and keeps a file once it is closed.
set -euo pipefail
: "${INPUT:?the rows}" "${PARENT:?the folder of all shards}" "${MODEL:?the name of the model}"
name=$(printf '%04d' "${1%/*}")

copy_shard() { # from one parent to another; its mark comes last
  mkdir -p "$2/shards"
  for part in shards.json "shards/$name" "shards/$name.done"; do
    if [[ -e $1/$part ]]; then cp -r "$1/$part" "$2/${part%"$name"*}"; fi
  done
}

if [[ ${BUCKET:-} && ! -e $PARENT/shards/$name ]]; then copy_shard "$BUCKET" "$PARENT"; fi
if [[ -e $PARENT/shards/$name.done ]]; then
  echo "shard $1 is complete: remove $PARENT/shards/$name.done to look at it again"
  exit
fi

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
# shellcheck disable=SC2086 # these are several words
vllm serve "$MODEL" --host 127.0.0.1 --port "$port" ${VLLM_OPTIONS:-} &
server=$!
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
until python3 -c "from urllib.request import urlopen; urlopen('http://127.0.0.1:$port/v1/models')" 2>/dev/null; do
  kill -0 "$server" 2>/dev/null || { echo "vLLM ended before it answered" >&2; exit 1; }
  sleep 1
done

# The run folder keeps every answer, so a response cache would only be a second copy.
flip-reward score "$INPUT" --shard "$1" --run-folder "$PARENT" \
  --model "$MODEL" --base-url "http://127.0.0.1:$port/v1" --cache off "${@:2}" &
scoring=$!
trap 'kill -TERM "$scoring" 2>/dev/null || true' TERM INT # it finishes the requests in flight
if [[ ${BUCKET:-} ]]; then
  while sleep "${COPY_SECONDS:-300}" >/dev/null 2>&1; do copy_shard "$PARENT" "$BUCKET"; done &
  copying=$!
fi
status=0
wait "$scoring" || status=$?
while kill -0 "$scoring" 2>/dev/null; do # a signal ends a 'wait' early
  status=0
  wait "$scoring" || status=$?
done
if [[ ${BUCKET:-} ]]; then
  kill "$copying" && wait "$copying" 2>/dev/null || true
  copy_shard "$PARENT" "$BUCKET"
fi
exit "$status"
