"""Puts channels that can be reordered among themselves into one group."""

from collections.abc import Sequence

import numpy as np

from crespr_onnx.layout import ChannelGroup, IntArray


def group_channels(
    axes: Sequence[tuple[str, IntArray]], frozen: Sequence[str | None]
) -> tuple[ChannelGroup, ...]:
    """Groups channels that live on exactly the same axes, as often, and are frozen for one reason.

    The groups start as one and are cut by one axis after the other, so the time is that of reading
    all axes once.

    Args:
        axes: name and channel ids of all axes that carry channels; the first gives its name.
        frozen: per channel id why it must stay as it is, or None.
    """
    part = np.zeros(len(frozen), dtype=np.int64)
    first_axis = np.full(len(frozen), -1, dtype=np.int64)
    parts = 1
    numbers = {reason: i for i, reason in enumerate(dict.fromkeys(frozen))}
    reasons = np.array([numbers[reason] for reason in frozen], dtype=np.int64)
    everyone = np.arange(len(frozen))
    cuts = [(everyone, reasons), *(np.unique(ids, return_counts=True) for _, ids in axes)]
    for i, (ids, kinds) in enumerate(cuts):
        # Channels stay together if they were together and are of one kind here.
        pairs = part[ids] * (kinds.max(initial=0) + 1) + kinds
        part[ids] = parts + np.unique(pairs, return_inverse=True)[1]
        parts += len(ids)
        if i:
            new = ids[first_axis[ids] < 0]
            first_axis[new] = i - 1
    names: set[str] = set()
    groups = []
    _, first, index = np.unique(part, return_index=True, return_inverse=True)
    members = np.split(np.argsort(index, kind="stable"), np.cumsum(np.bincount(index))[:-1])
    for number in np.argsort(first):
        channels = members[number]
        place = int(first_axis[channels[0]])
        name = tensor = axes[place][0] if place >= 0 else "unused"
        n = 1
        while name in names:
            name, n = f"{tensor}#{n + 1}", n + 1
        names.add(name)
        groups.append(ChannelGroup(name, channels, frozen[int(channels[0])]))
    return tuple(groups)
