"""Read a search file, and check that this machine has the weights that its trials start from."""

from pathlib import Path

from hpa_search.config import Value
from hpa_search.models.weights import check_weights as check_pretrained
from hpa_search.space.parsing import configurations, parse_search
from hpa_search.space.search import Search
from hpa_search.space.yaml_file import read_text


def read_search(path: Path) -> tuple[Search, str]:
    """Return the search of a file and the file's text. Raises UserError as ``parse_search``, or if it cannot be read."""
    text = read_text(path)
    return parse_search(text, str(path)), text


def check_weights(search: Search) -> None:
    """Make sure that the pretrained weights that trials may start from are at hand, and fit.

    Raises UserError that names the file, or says that the hub is out of reach. This looks at the machine, so it belongs
    to a run and not to the reading of a file.
    """
    checked: set[tuple[Value, ...]] = set()
    for values in configurations(search):
        config = search.trial_config(values)
        needed = (config.backbone, config.weights, config.resolution, config.network_size, config.channels)
        if config.weights != "none" and needed not in checked:
            checked.add(needed)
            check_pretrained(config)
