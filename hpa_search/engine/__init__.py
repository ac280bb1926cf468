"""Everything that touches Ray, and the life of a driver."""

import os

# Ray decides both of these when it is imported: slots need the second version of Ray Train, and `uv run` would
# otherwise pack the current folder and send it to each worker.
os.environ["RAY_TRAIN_V2_ENABLED"] = "1"
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
