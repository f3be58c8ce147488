"""Dividing problems over devices for validation and tests, so that every one counts once."""

from collections.abc import Callable, Sequence
from typing import Any

from torch.utils.data import DataLoader, Dataset, DistributedSampler


def even_batches(items: int, batch_size: int, rank: int, world_size: int) -> list[list[int]]:
    """The batches of one device: indices of its share, without repeats, as many as of the others.

    Devices gather weights and buffers together in every step, so that all must make equally many.
    Where the items do not go round, some of a device's last batches are shorter, or empty.

    Args:
        items: how many there are.
        batch_size: of a full batch.
        rank: of the device, whose share is every `world_size`-th item.
        world_size: the number of devices.
    """
    share = range(rank, items, world_size)
    longest = len(range(0, items, world_size))
    return [list(share[start : start + batch_size]) for start in range(0, longest, batch_size)]


class _Batches(Dataset[list[Any]]):
    """One device's batches as the items of a dataset."""

    def __init__(self, items: Any, batches: list[list[int]]):
        self.items = items
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> list[Any]:
        return [self.items[index] for index in self.batches[number]]


def evaluation_loader(
    items: Sequence[Any] | Dataset[Any],
    batch_size: int,
    collate: Callable[[list[Any]], Any],
    rank: int = 0,
    world_size: int = 1,
) -> DataLoader[Any]:
    """A loader of this device's share in the order of the items.

    Lightning's own would give some devices an item twice, so that all have equally many, and
    accuracies would depend on the number of devices.

    Args:
        items: with a length, by index.
        batch_size: items per batch.
        collate: makes a batch of items; the list may be empty, see `even_batches`.
        rank: of the device.
        world_size: the number of devices.
    """
    total = len(items)  # type: ignore[arg-type]  # a Dataset need not have a length
    batches = _Batches(items, even_batches(total, batch_size, rank, world_size))
    # the share is final: this sampler keeps Lightning from dividing it once more
    sampler: DistributedSampler[Any] = DistributedSampler(
        batches, num_replicas=1, rank=0, shuffle=False
    )
    return DataLoader(batches, batch_size=None, sampler=sampler, collate_fn=collate)
