import pytest

from lightning_ltts.data.evaluation import evaluation_loader, even_batches


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
@pytest.mark.parametrize("items", [0, 1, 7, 64, 65])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_every_item_once_and_equally_many_batches(
    items: int, batch_size: int, world_size: int
) -> None:
    devices = [even_batches(items, batch_size, rank, world_size) for rank in range(world_size)]
    seen = [index for batches in devices for batch in batches for index in batch]
    assert sorted(seen) == list(range(items))
    assert len({len(batches) for batches in devices}) == 1
    assert all(len(batch) <= batch_size for batches in devices for batch in batches)


def test_one_device_keeps_order_and_batches() -> None:
    assert list(evaluation_loader(list("abcde"), 2, list)) == [["a", "b"], ["c", "d"], ["e"]]


def test_a_device_without_an_item_left_has_an_empty_batch() -> None:
    loaders = [evaluation_loader(list("abc"), 1, list, rank, 2) for rank in range(2)]
    assert [list(loader) for loader in loaders] == [[["a"], ["c"]], [["b"], []]]
