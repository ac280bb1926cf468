#!/usr/bin/env bash
# Joins this machine to the cluster of a head: start-worker.sh HEAD [options of `ray start`]. Needs the head's ~/.ray/auth_token.
# Images or results in an object store need AWS_* too.
set -euo pipefail

if (($# == 0)); then
    echo "usage: start-worker.sh HEAD[:PORT] [options of ray start]" >&2
    exit 2
fi
head=$1
shift
[[ $head == *:* ]] || head=$head:6379
if [[ -z ${RAY_AUTH_TOKEN:-} && ! -s ${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token} ]]; then
    echo "start-worker.sh: no token; copy ~/.ray/auth_token from the head to the same place here, readable by you alone" >&2
    exit 2
fi

export RAY_AUTH_MODE=token
export RAY_USAGE_STATS_ENABLED=0
ray start --address="$head" "$@"
