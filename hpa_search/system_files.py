"""Names that volumes, file managers and synchronisers leave in folders; no dataset or search contains them."""

import re

_NAMES = frozenset(
    {
        "lost+found",  # the root of an ext file system
        "aquota.user",
        "aquota.group",
        "quota.user",
        "quota.group",
        "$recycle.bin",  # Windows
        "recycler",
        "system volume information",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "icon\r",  # macOS, and what archives made there hold
        "__macosx",
        "network trash folder",
        "temporary items",
        "@eadir",  # file servers
        "@tmp",
        "@recycle",
        "@recently-snapshot",
        "@sharebin",
        "#recycle",
        "#snapshot",
        "~snapshot",
        "_gsdata_",
    }
)
_REPOSITORIES = frozenset({".git", ".hg", ".svn", ".bzr"})
_PATTERN = re.compile(r"\..*|found\.\d{3}|.*:zone\.identifier", re.DOTALL)


def is_system_file(name: str) -> bool:
    """Return whether a file or folder ``name`` is hidden or the system's, as `.DS_Store`, `.nfs0000`, `lost+found`."""
    name = name.lower()
    return name in _NAMES or _PATTERN.fullmatch(name) is not None


def is_users_file(name: str) -> bool:
    """Return whether a file or folder ``name`` makes its folder count as not empty, as a repository also does."""
    return name in _REPOSITORIES or not is_system_file(name)
