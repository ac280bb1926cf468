#!/bin/sh
# Ends the searches whose drivers run on this machine, as Ctrl-C does, and waits for them: for a head that is about to go.
# What is trained stays; the same command, submit or RayJob goes on with it.
set -eu

drivers() { # only the Python that drives, not a shell around it, whose end Ray would take for the search's
    pgrep -f '^[^ ]*python[^ ]* ([^ ]*/hpa-search|-m hpa_search\.cli) (run|resume|finish)( |$)'
}

drivers | xargs -r kill -TERM || true
waited=0
while drivers >/dev/null && [ "$waited" -lt "${RAY_JOB_STOP_WAIT_TIME_S:-60}" ]; do
    sleep 1
    waited=$((waited + 1))
done
