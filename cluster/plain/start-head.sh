#!/usr/bin/env bash
# Starts Ray's head on this machine, ready for `hpa-search submit`. Options go to `ray start`, such as --num-cpus=0 for a head
# that does not train. Drivers run here, so this environment needs PGPASSWORD (or ~/.pgpass) and AWS_*.
set -euo pipefail

export RAY_AUTH_MODE=token
export RAY_JOB_STOP_SIGNAL=SIGINT RAY_JOB_STOP_WAIT_TIME_S=60 # Ray's default: SIGTERM, and SIGKILL 3 s later
export RAY_USAGE_STATS_ENABLED=0

ray get-auth-token --generate >/dev/null # makes ~/.ray/auth_token if it is missing
ray start --head --port=6379 --dashboard-host=0.0.0.0 "$@"
