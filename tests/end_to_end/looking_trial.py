"""A trial that writes down what its worker inherits."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from sleeper import Sleeper, SleepJob


def open_looking(job: str, number: int, parameters: dict[str, Any]) -> Sleeper:
    seen = {
        "environment": dict(os.environ),
        "path": sys.path,
        "folder": str(Path.cwd()),
        "driver_path": json.loads(os.environ["DRIVER_PATH"]),
    }
    Path(job, "seen.json").write_text(json.dumps(seen))
    return Sleeper(SleepJob(Path(job)), number, parameters["learning_rate"])
