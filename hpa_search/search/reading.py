"""Read a search file, and check that this machine has the pretrained weights of its trials."""

from pathlib import Path

from hpa_search.config import Value
from hpa_search.models.weights import check_weights as check_pretrained
from hpa_search.space.parsing import configurations, parse_search
from hpa_search.space.search import Search
from hpa_search.space.yaml_file import read_text


def read_search(path: Path) -> tuple[Search, str]:
    """Return the search in the file ``path``, and the file's text.

    Raises UserError as `parse_search`, or if the file cannot be read.
    """
    text = read_text(path)
    return parse_search(text, str(path)), text


def check_weights(search: Search) -> None:
    """Check that this machine has all pretrained weights that trials may start from, and that they fit.

    Raises UserError that names the file, or says that the hub is out of reach. The answer depends on the machine, so a run
    asks for it, and the reading of a file does not.
    """
    checked: set[tuple[Value, ...]] = set()
    for values in configurations(search):
        config = search.trial_config(values)
        needed = (config.backbone, config.weights, config.resolution, config.network_size, config.channels)
        if config.weights != "none" and needed not in checked:
            checked.add(needed)
            check_pretrained(config)
