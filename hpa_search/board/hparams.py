"""The HPARAMS page of TensorBoard: a column for each parameter, a row for each trial.

Columns are the whole search space, written once. Left to itself, TensorBoard takes them from the first trials, and a parameter that
exists beside some values of another is missing. TensorBoard's own functions for these messages need TensorFlow.
"""

import time
from collections.abc import Mapping
from typing import Any

from google.protobuf.struct_pb2 import ListValue, Value  # type: ignore[import-untyped]
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2  # type: ignore[import-untyped]

from hpa_search.board.tags import best_tag
from hpa_search.space.dimension import Dimension

NONE = "none"
"""How a choice of no value is shown."""
_STATUS = {"complete": api_pb2.STATUS_SUCCESS, "pruned": api_pb2.STATUS_SUCCESS, "failed": api_pb2.STATUS_FAILURE}


def experiment(space: Mapping[str, Dimension], metrics: list[str]) -> Summary:
    """Return the columns: the dimensions of ``space`` with their domains, and ``metrics`` at each trial's best epoch."""
    return _summary(
        metadata.EXPERIMENT_TAG,
        plugin_data_pb2.HParamsPluginData(
            experiment=api_pb2.Experiment(
                time_created_secs=time.time(),
                hparam_infos=[_column(name, dimension) for name, dimension in space.items()],
                metric_infos=[
                    api_pb2.MetricInfo(
                        name=api_pb2.MetricName(tag=best_tag(name)),
                        display_name=name,
                        description="at the best epoch so far",
                        dataset_type=api_pb2.DATASET_VALIDATION,
                    )
                    for name in metrics
                ],
            )
        ),
    )


def started(space: Mapping[str, Dimension], parameters: Mapping[str, Any]) -> Summary:
    """Return the row of a trial that has started."""
    values = {name: _value(space[name], value) for name, value in parameters.items() if name in space}
    info = plugin_data_pb2.SessionStartInfo(hparams=values, start_time_secs=time.time())
    return _summary(metadata.SESSION_START_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_start_info=info))


def ended(state: str) -> Summary:
    """Return the end of a trial that is `complete`, `pruned` or `failed`."""
    info = plugin_data_pb2.SessionEndInfo(status=_STATUS[state], end_time_secs=time.time())
    return _summary(metadata.SESSION_END_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_end_info=info))


def _column(name: str, dimension: Dimension) -> Any:
    column = api_pb2.HParamInfo(name=name, type=_type(dimension))
    if dimension.choice is None:
        low, high = dimension.bounds
        column.domain_interval.CopyFrom(api_pb2.Interval(min_value=low, max_value=high))
    else:
        column.domain_discrete.CopyFrom(ListValue(values=[_value(dimension, choice) for choice in dimension.choice]))
    return column


def _type(dimension: Dimension) -> int:
    are_numbers = all(type(choice) in (int, float) for choice in dimension.choice or ())
    return int(api_pb2.DATA_TYPE_FLOAT64 if are_numbers else api_pb2.DATA_TYPE_STRING)


def _value(dimension: Dimension, value: Any) -> Value:
    """Return a value in the type of its column. TensorBoard drops values of another."""
    if _type(dimension) == api_pb2.DATA_TYPE_FLOAT64:
        return Value(number_value=value)
    return Value(string_value=NONE if value is None else str(value))


def _summary(name: str, data: Any) -> Summary:
    content = metadata.create_summary_metadata(data)
    return Summary(value=[Summary.Value(tag=name, metadata=content, tensor=metadata.NULL_TENSOR)])
