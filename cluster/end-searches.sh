#!/bin/sh
# Ends the searches whose drivers run on this machine, as Ctrl-C does, and waits for them. Run it before a head goes away.
# Trained epochs stay in OUT. The same command, submit or RayJob resumes the search.
set -eu

drivers() { # only the Python process: Ray would take the end of a shell around it for the end of the search
    pgrep -f '^[^ ]*python[^ ]* ([^ ]*/hpa-search|-m hpa_search\.cli) (run|resume|finish)( |$)'
}

drivers | xargs -r kill -TERM || true
waited=0
while drivers >/dev/null && [ "$waited" -lt "${RAY_JOB_STOP_WAIT_TIME_S:-60}" ]; do
    sleep 1
    waited=$((waited + 1))
done
