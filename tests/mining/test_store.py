import json
from pathlib import Path

import pytest
import torch

from lightning_ltts.errors import StoreError
from lightning_ltts.mining.store import MANIFEST, Shard, StoreWriter, TrajectoryStore, join_shards, shard_name


def make_shard(start: int, questions: int = 2) -> Shard:
    lengths = torch.arange(questions) + 2
    return Shard(
        prompt_ids=torch.arange(int(lengths.sum()), dtype=torch.int32) + 100 * start,
        prompt_lengths=lengths,
        question_index=torch.arange(questions) + start,
        thoughts=torch.full((questions, 4, 3, 8), float(start)),
        clean=torch.zeros(questions, 4, 0, 8),
        thought_counts=torch.full((questions, 4), 3),
        labels=torch.rand(questions, 4, 3),
        votes=torch.zeros(questions, 4, dtype=torch.long),
        answers=torch.zeros(questions, 4, 5, dtype=torch.int32),
        reference=torch.zeros(questions, 3, 8),
        reference_counts=torch.full((questions,), 3),
        reference_answers=torch.zeros(questions, 5, dtype=torch.int32),
    )


def fill(folder: Path, settings: dict | None = None) -> StoreWriter:
    writer = StoreWriter(folder, settings or {"seed": 0}, num_shards=2)
    writer.open()
    for number in range(2):
        writer.write(number, make_shard(2 * number), {"questions": 2, "seconds": 0.5})
    return writer


def test_round_trip(tmp_path: Path) -> None:
    manifest = fill(tmp_path).close({"versions": {"torch": "x"}})
    assert manifest["counts"] == {"questions": 4, "seconds": 1.0}
    store = TrajectoryStore(tmp_path)
    assert len(store) == 4
    assert [store[i].prompt for i in range(4)] == [[0, 1], [2, 3, 4], [200, 201], [202, 203, 204]]
    assert store[3].thoughts.shape == (4, 3, 8)
    assert float(store[3].thoughts.mean()) == 2


def test_unfinished_is_refused_and_goes_on(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, {"seed": 0}, 2)
    writer.open()
    writer.write(0, make_shard(0), {"questions": 2})
    with pytest.raises(StoreError, match="unfinished"):
        TrajectoryStore(tmp_path)
    (tmp_path / "shard-00001.123.tmp").write_bytes(b"torn")  # what a kill leaves behind
    again = StoreWriter(tmp_path, {"seed": 0}, 2)
    again.open()
    assert (again.has(0), again.has(1), again.complete) == (True, False, False)
    again.write(1, make_shard(2), {"questions": 2})
    again.close({})
    assert again.complete
    assert len(TrajectoryStore(tmp_path)) == 4
    assert not list(tmp_path.glob("*.tmp"))


def test_other_settings_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, {"seed": 0, "reasoner": "abc"})
    with pytest.raises(StoreError, match=r"was made with reasoner='abc', but this run has 'def'"):
        StoreWriter(tmp_path, {"seed": 0, "reasoner": "def"}, 2).open()


def test_damage_is_found(tmp_path: Path) -> None:
    fill(tmp_path).close({})
    path = tmp_path / shard_name(1)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match="does not match its checksum"):
        TrajectoryStore(tmp_path)
    path.unlink()
    with pytest.raises(StoreError, match="is missing"):
        TrajectoryStore(tmp_path)


def test_a_torn_shard_is_named_when_the_store_is_closed(tmp_path: Path) -> None:
    writer = fill(tmp_path)
    (tmp_path / shard_name(0)).write_bytes(b"short")
    with pytest.raises(StoreError, match=r"shard-00000\.safetensors is damaged"):
        writer.close({})


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not a trajectory store"):
        TrajectoryStore(tmp_path)
    (tmp_path / MANIFEST).write_text('{"set')
    with pytest.raises(StoreError, match="is damaged"):
        TrajectoryStore(tmp_path)
    (tmp_path / MANIFEST).unlink()
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(StoreError, match="holds files"):
        StoreWriter(tmp_path, {}, 1).open()


def test_join() -> None:
    joined = join_shards([make_shard(0), make_shard(2)])
    assert joined.question_index.tolist() == [0, 1, 2, 3]
    assert json.dumps(joined.prompt_lengths.tolist()) == "[2, 3, 2, 3]"
