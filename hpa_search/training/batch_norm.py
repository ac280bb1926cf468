"""Batch norms over a whole batch of which each worker holds a part.

`WholeBatch` replaces torch's function `batch_norm`, which all batch norms of torch and timm call. The network itself is
unchanged: saving, averaging and freezing need not know of workers. (torch's SyncBatchNorm replaces modules and does not work
on a CPU.)
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import batch_norm
from torch.overrides import TorchFunctionMode


class WholeBatch(TorchFunctionMode):
    """Normalise training batches by the statistics of all workers' rows, and keep these statistics.

    All workers must call the network inside this context, with at least one row each. A norm without running statistics stays
    as it is. Convolutions that standardise their weights by this same function are an example (timm's ScaledStdConv2d).
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call `whole_batch_norm` in place of `batch_norm`, and any other function unchanged."""
        kwargs = kwargs or {}
        if func is batch_norm and kwargs["training"] and args[1] is not None:
            return whole_batch_norm(*args[:3], **{name: value for name, value in kwargs.items() if name != "training"})
        return func(*args, **kwargs)


def whole_batch_norm(
    values: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    *,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    """Return ``values`` (b, c, ...) normalised over all workers' rows and places.

    Also update the running statistics from the same rows.
    """
    result, mean, var, count = _WholeBatchNorm.apply(values, weight, bias, eps)
    with torch.no_grad():
        running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        running_var.lerp_((var * (count / (count - 1))).to(running_var.dtype), momentum)
    normalised: Tensor = result
    return normalised


class _WholeBatchNorm(Function):
    """Normalise by mean and variance over all workers (Ioffe and Szegedy 2015, arXiv 1502.03167, algorithm 1)."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, ...]:
        """Return the normalised values, each channel's mean and biased variance (c,), and the count of values."""
        exact = values.float()
        mean, var, count = _statistics(exact)
        scale = torch.rsqrt(var + eps)
        normal = (exact - _wide(mean, exact)) * _wide(scale, exact)
        ctx.save_for_backward(values, weight, mean, scale, count)
        ctx.mark_non_differentiable(mean, var, count)
        if weight is not None and bias is not None:
            normal = normal * _wide(weight, exact) + _wide(bias, exact)
        return normal.to(values.dtype), mean, var, count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of values, weight and bias.

        The gradients of weight and bias are this worker's part of a sum over all workers.
        """
        values, weight, mean, scale, count = ctx.saved_tensors
        exact, gradient = values.float(), gradients[0].float()
        normal = (exact - _wide(mean, exact)) * _wide(scale, exact)
        over = [0, *range(2, values.ndim)]
        own = torch.stack([gradient.sum(over), (gradient * normal).sum(over)])
        means = own.clone()
        dist.all_reduce(means)
        means /= count
        inner = (gradient - _wide(means[0], exact) - normal * _wide(means[1], exact)) * _wide(scale, exact)
        if weight is None:
            return inner.to(values.dtype), None, None, None
        return (inner * _wide(weight, exact)).to(values.dtype), own[1], own[0], None


def _statistics(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean and the biased variance (c,) over all workers, and the count of values.

    Every worker merges all means and squared deviations in the same order (Chan, Golub and LeVeque 1979). The mean of squares
    less the squared mean would cancel.
    """
    over = [0, *range(2, values.ndim)]
    mean = values.mean(over)
    squares = (values - _wide(mean, values)).square().sum(over)
    count = mean.new_full((1,), values.numel() // values.shape[1])
    own = torch.cat([mean, squares, count])
    all_ = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(all_, own)
    everyone = torch.stack(all_)
    channels = len(mean)
    means, counts = everyone[:, :channels], everyone[:, -1:]
    total = counts.sum()
    whole = (means * counts).sum(0) / total
    about = everyone[:, channels:-1].sum(0) + (counts * (means - whole).square()).sum(0)
    return whole, about / total, total


def _wide(channel: Tensor, values: Tensor) -> Tensor:
    """Return ``channel`` (c,) in a shape that broadcasts with ``values`` (b, c, ...)."""
    return channel.view(1, -1, *[1] * (values.ndim - 2))
