"""Match the tensors of a file with those of a network, by name or by order."""

from collections.abc import Mapping

Shapes = Mapping[str, tuple[int, ...]]
"""The names and shapes of tensors, in order."""

COUNTER = "num_batches_tracked"
"""The batch counter of a batch norm; a file or a network may lack it."""

PREFIXES = (
    *("_orig_mod.", "module.", "model.", "backbone.", "net.", "network.", "model_ema.", "ema_model."),
    *("teacher.", "student.", "encoder.", "encoder_q.", "trunk."),
)
"""The prefixes that compiled, parallel, averaged and larger models add to the names of an inner network."""


def match(
    found: Shapes, wanted: Shapes, *, classifier: str | tuple[str, ...] | None = None, ordered: bool = True
) -> dict[str, str]:
    """Return, for each ``wanted`` name, the name of its tensor in ``found``.

    Tensors match by name, without common prefixes, if every wanted name is found. Otherwise they match by order. Then shapes
    have to agree one by one, and so do the last parts of names (weight, bias, running_mean). ``ordered`` says whether the file's
    order means anything.

    Surplus tensors have to be a last layer. By name they belong to another module or to the ``classifier``. By order they are
    at most a weight and a bias at the end. Raises ValueError with the first difference and both sides.
    """
    found = {name: shape for name, shape in found.items() if not name.endswith(COUNTER)}
    inner = _without_prefixes(found, wanted)
    if set(wanted) <= set(inner):
        return _by_name(inner, wanted, (classifier,) if isinstance(classifier, str) else tuple(classifier or ()))
    try:
        if ordered:
            return _by_order(found, wanted)
    except ValueError:
        # If most names agree, a missing name explains more than a difference in order.
        if 2 * len(set(wanted) & set(inner)) <= len(wanted):
            raise
    raise ValueError(_missing(inner, wanted))


def _without_prefixes(found: Shapes, wanted: Shapes) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return the full name and shape of each tensor in ``found``, by its name without prefixes."""
    inner = {name: (name, shape) for name, shape in found.items()}
    while True:
        for prefix in PREFIXES:
            within = {name.removeprefix(prefix): entry for name, entry in inner.items() if name.startswith(prefix)}
            if within and not any(name.startswith(prefix) for name in wanted):
                inner = within
                break
        else:
            return inner


def _by_name(inner: dict[str, tuple[str, tuple[int, ...]]], wanted: Shapes, classifier: tuple[str, ...]) -> dict[str, str]:
    for name, shape in wanted.items():
        if inner[name][1] != shape:
            raise ValueError(f"'{inner[name][0]}' has shape {inner[name][1]} in the file and {shape} in the network")
    modules = {name.split(".")[0] for name in wanted}
    for name in inner:
        if (
            name not in wanted
            and name.split(".")[0] in modules
            and not name.startswith(tuple(f"{layer}." for layer in classifier))
        ):
            raise ValueError(f"the file has '{inner[name][0]}', which the network lacks: the file is of a larger model")
    return {name: inner[name][0] for name in wanted}


def _by_order(found: Shapes, wanted: Shapes) -> dict[str, str]:
    pairs = list(zip(found.items(), wanted.items(), strict=False))
    for number, ((theirs, shape), (ours, expected)) in enumerate(pairs, start=1):
        if shape != expected or theirs.split(".")[-1] != ours.split(".")[-1]:
            raise ValueError(
                f"the tensors match neither by name nor by order: tensor {number} is '{theirs}' {shape} in the file and '{ours}' {expected} in the network"
            )
    beyond = list(found)[len(pairs) :]
    if len(pairs) < len(wanted):
        raise ValueError(f"the file ends after {len(pairs)} tensors; the next of the network is '{list(wanted)[len(pairs)]}'")
    if [name.split(".")[-1] for name in beyond] not in ([], ["weight"], ["weight", "bias"]):
        raise ValueError(f"the network ends after {len(pairs)} tensors; the next of the file is '{beyond[0]}'")
    return {ours: theirs for (theirs, _), (ours, _) in pairs}


def _missing(inner: Mapping[str, object], wanted: Shapes) -> str:
    absent = next(name for name in wanted if name not in inner)
    return f"the network has '{absent}', which the file lacks; the file has '{next(iter(inner), '')}' and {len(inner) - 1} others"
