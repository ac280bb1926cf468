"""Ray's private parts that slots need, in one table. Each is imported at its first use.

Ray may move them with any release, so pyproject.toml bounds Ray by the last version that was tried. To try a newer one,
raise that bound and run tests/engine/test_ray_private.py, which says what has moved.
"""

from importlib import import_module
from typing import Any

PARTS = {
    "actors": "ray._private.state",
    "AuthenticationTokenLoader": "ray._raylet",
    "DatasetsCallback": "ray.train.v2._internal.callbacks.datasets",
    "PlacementGroupCleaner": "ray.train.v2._internal.execution.controller.placement_group_cleaner",
    "RayTrainCallback": "ray.train.v2._internal.execution.callback",
    "TrainController": "ray.train.v2._internal.execution.controller.controller",
    "TrainRunContext": "ray.train.v2._internal.execution.context",
    "WorkerGroup": "ray.train.v2._internal.execution.worker_group",
    "WorkerGroupStartupTimeoutError": "ray.train.v2._internal.exceptions",
    "placement_group_callback": "ray.train.v2._internal.callbacks",
}
"""By name, the module of Ray's that holds it. The cleaner's process imports one of them and need not wait for the others."""


def __getattr__(name: str) -> Any:
    if name not in PARTS:
        raise AttributeError(f"{__name__}: has no part '{name}'")
    module = PARTS[name]
    try:
        return getattr(import_module(module), name, None) or import_module(f"{module}.{name}")
    except ImportError as error:
        import ray

        raise ImportError(
            f"Ray {ray.__version__} has no {module}.{name} any more, which hpa-search needs ({error}); install the version of "
            "Ray that pyproject.toml names"
        ) from error
