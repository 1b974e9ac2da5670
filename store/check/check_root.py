"""Checking what lies at the root of a store: its groups, its manifest, and whatever else."""

from __future__ import annotations

import contextlib

import zarr

from r2t.store.check.faults import UNFINISHED, Fault
from r2t.store.check.inventory import (
    EARLIER_NAMES,
    LATER_NAMES,
    names_in,
    part_names,
    top_names,
)
from r2t.store.errors import CorruptFeatureError
from r2t.store.format import KINDS, find_node, group_names
from r2t.store.sources import StoreRoot, open_root

_LEFT = {
    1: UNFINISHED,
    2: "parts of format version 1 that an upgrade left; `r2t store repair` removes them",
}


def check_root(root: StoreRoot, *, with_manifest: bool) -> list[Fault]:
    """Look at what lies at the root, and at the manifest, unless a run may be writing it."""
    faults = _missing_groups(root)
    if not root.is_listed:
        return faults
    version = root.header.format_version
    found = set(names_in(root, "")) - top_names(version)
    left = found & (LATER_NAMES if version == 1 else EARLIER_NAMES)
    faults += [Fault("foreign", name, "the format has no place for this") for name in found - left]
    faults += [Fault("left-over", name, _LEFT[version]) for name in left]
    for kind in KINDS if version > 1 and with_manifest else ():
        there, named = set(part_names(root, kind)), set(root.header.parts[kind])
        if there != named:  # others may have added or joined parts since the store was opened
            named = set(open_root(root.location).header.parts[kind])
            before, there = there, set(part_names(root, kind))
            if named in (before, there):
                continue
            detail = f"of {kind} it does not name {sorted(there - named)}"
            if gone := named - there:
                detail += f", and names {sorted(gone)}, which are not there"
            faults.append(Fault("manifest", "zarr.json", detail))
    return faults


def _missing_groups(root: StoreRoot) -> list[Fault]:
    faults: list[Fault] = []
    for name in group_names(root.header.format_version):
        with contextlib.suppress(CorruptFeatureError):
            if isinstance(find_node(root.group, name), zarr.Group):
                continue
        faults.append(Fault("group", name, "is missing, or its zarr.json is missing or damaged"))
    return faults
