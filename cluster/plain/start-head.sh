#!/usr/bin/env bash
# Starts Ray's head on this machine, ready for `hpa-search submit`. What is given goes to `ray start`, such as --num-cpus=0 for
# a head that does not train. The searches' drivers run here: PGPASSWORD or ~/.pgpass, and AWS_*, are needed in this environment.
set -euo pipefail

export RAY_AUTH_MODE=token
export RAY_JOB_STOP_SIGNAL=SIGINT RAY_JOB_STOP_WAIT_TIME_S=60 # Ray's own is SIGTERM and, 3 s later, SIGKILL
export RAY_USAGE_STATS_ENABLED=0

ray get-auth-token --generate >/dev/null # makes ~/.ray/auth_token where there is none
ray start --head --port=6379 --dashboard-host=0.0.0.0 "$@"
