"""What differs between two sets of settings, key by key."""

from collections.abc import Mapping

Change = tuple[str, str, str]  # key, before, after; "" where there was none


def difference(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Change, ...]:
    """Return what changed, by key."""
    return tuple(
        (key, before.get(key, ""), after.get(key, ""))
        for key in sorted({*before, *after})
        if before.get(key, "") != after.get(key, "")
    )
