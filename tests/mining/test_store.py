import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lightning_ltts.errors import StoreError
from lightning_ltts.mining import store
from lightning_ltts.mining.questions import MinedQuestions
from lightning_ltts.mining.shard_files import TENSORS, shard_name
from lightning_ltts.mining.store import (
    MANIFEST,
    StoreWriter,
    TrajectoryStore,
    collate,
    read_manifest,
)
from lightning_ltts.models.trajectories import Trajectories


def make_questions(start: int, questions: int = 2, clean: bool = False) -> MinedQuestions:
    """Prompts of 2, 3, ... tokens, and thoughts that are all `start`."""
    width = questions + 1
    lengths = torch.arange(questions) + 2
    mask = (torch.arange(width) >= width - lengths[:, None]).long()
    ids = (mask.flatten().cumsum(0).view(mask.shape) - 1 + 100 * start) * mask
    thoughts = torch.full((questions, 4, 3, 8), float(start))
    counts = torch.full((questions, 4), 3)
    answers = torch.zeros(questions, 4, 5, dtype=torch.int64)
    samples = Trajectories(thoughts, counts, answers, thoughts / 2 if clean else None)
    return MinedQuestions(
        input_ids=ids,
        attention_mask=mask,
        trajectories=samples,
        labels=torch.rand(questions, 4, 3),
        votes=torch.zeros(questions, 4, dtype=torch.long),
        reference=Trajectories(thoughts[:, :1] + 1, counts[:, :1], answers[:, :1]),
        question_index=torch.arange(questions) + start,
    )


def fill(folder: Path, settings: dict | None = None, num_shards: int = 2) -> StoreWriter:
    writer = StoreWriter(folder, settings or {"seed": 0}, num_shards)
    writer.open()
    for number in range(num_shards):
        writer.write(number, make_questions(2 * number), {"questions": 2, "seconds": 0.5})
    return writer


def test_round_trip(tmp_path: Path) -> None:
    manifest = fill(tmp_path).close({"versions": {"torch": "x"}})
    assert manifest["counts"] == {"questions": 4, "seconds": 1.0}
    store = TrajectoryStore(tmp_path)
    assert len(store) == 4
    prompts = [store[i].prompts[0] for i in range(4)]
    assert prompts == [[0, 1], [2, 3, 4], [200, 201], [202, 203, 204]]
    assert store[3].trajectories.thoughts.shape == (1, 4, 3, 8)
    assert float(store[3].trajectories.thoughts.mean()) == 2
    assert float(store[3].reference.thoughts.mean()) == 3
    assert store[3].trajectories.clean_thoughts is None
    assert [int(store[i].question_index) for i in range(4)] == [0, 1, 2, 3]


@pytest.mark.parametrize("clean", [False, True])
def test_a_shard_holds_what_it_always_held(tmp_path: Path, clean: bool) -> None:
    """Names, shapes and types of the tensors in a file, which stores of other versions share."""
    writer = StoreWriter(tmp_path, {}, 1)
    writer.open()
    writer.write(0, make_questions(0, clean=clean), {})
    with safe_open(tmp_path / shard_name(0), "pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert {name: (tuple(x.shape), x.dtype) for name, x in found.items()} == {
        "prompt_ids": ((5,), torch.int32),
        "prompt_lengths": ((2,), torch.int64),
        "question_index": ((2,), torch.int64),
        "thoughts": ((2, 4, 3, 8), torch.float32),
        "clean": ((2, 4, 3 if clean else 0, 8), torch.float32),
        "thought_counts": ((2, 4), torch.int64),
        "labels": ((2, 4, 3), torch.float32),
        "votes": ((2, 4), torch.int64),
        "answers": ((2, 4, 5), torch.int32),
        "reference": ((2, 3, 8), torch.float32),
        "reference_counts": ((2,), torch.int64),
        "reference_answers": ((2, 5), torch.int32),
    }
    assert found.keys() == TENSORS.keys()


def test_a_batch_is_the_same_questions(tmp_path: Path) -> None:
    """Through files and the tensors of a batch, padded anew."""
    writer = StoreWriter(tmp_path, {}, 1)
    writer.open()
    questions = make_questions(1, clean=True)
    writer.write(0, questions, {})
    writer.close({})
    store = TrajectoryStore(tmp_path)
    batch = MinedQuestions.from_tensors(collate([store[0], store[1]]))
    assert len(batch) == 2
    for name, tensor in questions.tensors().items():
        assert torch.equal(batch.tensors()[name], tensor), name


def test_unfinished_is_refused_and_goes_on(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, {"seed": 0}, 2)
    writer.open()
    writer.write(0, make_questions(0), {"questions": 2})
    with pytest.raises(StoreError, match="unfinished"):
        TrajectoryStore(tmp_path)
    (tmp_path / "shard-00001.123.tmp").write_bytes(b"torn")  # what a kill leaves behind
    again = StoreWriter(tmp_path, {"seed": 0}, 2)
    again.open()
    assert (again.has(0), again.has(1), again.complete) == (True, False, False)
    again.write(1, make_questions(2), {"questions": 2})
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
        TrajectoryStore(tmp_path, verify=True)
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


def test_join_and_select() -> None:
    joined = MinedQuestions.join([make_questions(0), make_questions(2, 1)])
    assert joined.question_index.tolist() == [0, 1, 2]
    assert joined.prompts == [[0, 1], [2, 3, 4], [200, 201]]
    some = joined.select(torch.tensor([True, False, True]))
    assert some.prompts == [[0, 1], [200, 201]]
    assert some.trajectories.thoughts[:, 0, 0, 0].tolist() == [0, 2]
    assert some.reference.thoughts[:, 0, 0, 0].tolist() == [1, 3]


def test_mixed_questions_have_both_right_and_wrong_trajectories() -> None:
    labels = torch.zeros(2, 4, 3)
    labels[0, 2, -1] = 1
    one = make_questions(0)
    mined = MinedQuestions(**{**vars(one), "labels": labels})
    assert mined.correct.tolist() == [[0, 0, 1, 0], [0, 0, 0, 0]]
    assert mined.mixed.tolist() == [True, False]


def test_settings_that_one_side_lacks_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, {"seed": 0})
    with pytest.raises(StoreError, match="was made with extra=None, but this run has 1"):
        StoreWriter(tmp_path, {"seed": 0, "extra": 1}, 2).open()
    with pytest.raises(StoreError, match="was made with seed=0, but this run has None"):
        StoreWriter(tmp_path, {}, 2).open()


def test_a_shard_that_could_not_be_written_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the disk is full: neither a torn shard nor a temporary file stays."""

    def torn(tensors: dict, path: Path, **options) -> None:
        Path(path).write_bytes(b"the first half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "save_file", torn)
    writer = StoreWriter(tmp_path, {"seed": 0}, 1)
    writer.open()
    with pytest.raises(OSError, match="No space left"):
        writer.write(0, make_questions(0), {"questions": 2})
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST]
    assert not writer.has(0)


def test_the_first_shards_that_hold_enough_are_the_store(tmp_path: Path) -> None:
    """Without a gap: what another process has mined beyond them is removed."""
    writer = StoreWriter(tmp_path, {"seed": 0}, 4)
    writer.open()
    for number in (0, 2, 3):
        writer.write(number, make_questions(2 * number), {"questions": 2, "kept": 2})
    assert [writer.shards_with(enough) for enough in (1, 2, 3)] == [1, 1, None]
    writer.write(1, make_questions(2), {"questions": 2, "kept": 1})
    assert [writer.shards_with(enough) for enough in (2, 3, 4, 7, 8)] == [1, 2, 3, 4, None]
    manifest = writer.close({}, enough=3)
    assert list(manifest["shards"]) == [shard_name(0), shard_name(1)]
    assert manifest["counts"] == {"questions": 4, "kept": 3}
    assert len(list(tmp_path.glob("shard-*"))) == 2
    assert TrajectoryStore(tmp_path)[3].prompts == [[202, 203, 204]]


def test_where_there_is_not_enough_all_shards_are_the_store(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, {"seed": 0}, 2)
    writer.open()
    for number in range(2):
        writer.write(number, make_questions(2 * number), {"kept": 1})
    assert len(writer.close({}, enough=3)["shards"]) == 2


def test_a_manifest_alone_is_no_store_yet(tmp_path: Path) -> None:
    """Nothing was mined with its settings: others take their place. Folders are made on the way."""
    folder = tmp_path / "logs" / "store"
    assert not StoreWriter(folder, {"seed": 0}, 1).complete
    for seed in (0, 1):
        StoreWriter(folder, {"seed": seed}, 1).open()
    assert read_manifest(folder)["settings"] == {"seed": 1}
    assert not StoreWriter(folder, {"seed": 1}, 1).complete


def test_a_batch_without_questions(tmp_path: Path) -> None:
    """A device's last in a validation: shaped like the others."""
    fill(tmp_path).close({})
    empty = collate([], TrajectoryStore(tmp_path))
    assert empty["labels"].shape == (0, 4, 3)
    assert empty["input_ids"].shape[0] == 0


def unreadable(folder: Path, number: int) -> None:
    """A shard that is there, but of which not even the header can be read."""
    (folder / shard_name(number)).write_bytes(b"torn")


def test_a_store_is_indexed_by_its_manifest(tmp_path: Path) -> None:
    """Neither opening it nor reading a question touches another question's shard."""
    fill(tmp_path, num_shards=3).close({})
    unreadable(tmp_path, 1)
    unreadable(tmp_path, 2)
    some = TrajectoryStore(tmp_path)
    assert len(some) == 6
    assert some[1].prompts == [[2, 3, 4]]
    for _ in range(2):  # what was found damaged is not taken the next time
        with pytest.raises(StoreError, match=r"shard-00001.* does not match its checksum"):
            some[2]
    (tmp_path / shard_name(0)).unlink()
    with pytest.raises(StoreError, match="is missing"):
        TrajectoryStore(tmp_path)


READERS = {
    "by index": lambda some: some[5],
    "in order": lambda some: list(some.in_order([5])),
    "all": lambda some: some.verify(),
}


@pytest.mark.parametrize("name", READERS)
def test_damage_is_found_at_the_first_use(tmp_path: Path, name: str) -> None:
    fill(tmp_path, num_shards=3).close({})
    path = tmp_path / shard_name(2)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    some = TrajectoryStore(tmp_path)
    assert len([some[i] for i in range(4)]) == 4
    with pytest.raises(StoreError, match=r"shard-00002.* does not match its checksum; delete"):
        READERS[name](some)


def test_a_shard_is_checked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path).close({})
    checked, check = list[str](), store.check_shard
    monkeypatch.setattr(
        store, "check_shard", lambda path, *more: checked.append(path.name) or check(path, *more)
    )
    monkeypatch.setattr(store, "MAPPED", 1)
    some = TrajectoryStore(tmp_path)
    assert checked == []
    for i in (2, 0, 3, 1):
        some[i]
    list(some.in_order(range(4)))
    some.verify()
    assert checked == [shard_name(1), shard_name(0)]


def change_manifest(folder: Path, **entries) -> None:
    content = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(content | entries))


def test_sizes_are_in_the_manifest_or_in_the_shards_headers(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, {}, 2)
    writer.open()
    for number, questions in enumerate((3, 2)):
        writer.write(number, make_questions(number, questions), {})
    assert writer.close({})["sizes"] == {shard_name(0): 3, shard_name(1): 2}
    new = TrajectoryStore(tmp_path)
    manifest = read_manifest(tmp_path)
    del manifest["sizes"]
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    old = TrajectoryStore(tmp_path)
    assert len(old) == len(new) == 5
    assert [old[i].prompts for i in range(5)] == [new[i].prompts for i in range(5)]
    unreadable(tmp_path, 1)
    with pytest.raises(StoreError, match=r"shard-00001.* is damaged .*delete the store"):
        TrajectoryStore(tmp_path)


def test_a_manifest_with_other_sizes(tmp_path: Path) -> None:
    fill(tmp_path).close({})
    change_manifest(tmp_path, sizes={shard_name(0): 1, shard_name(1): 2})
    with pytest.raises(StoreError, match="2 questions instead of the manifest's 1"):
        TrajectoryStore(tmp_path)[0]


@pytest.mark.parametrize(
    ("name", "value"), [("labels", 1.5), ("labels", float("nan")), ("question_index", -3)]
)
def test_columns_of_which_one_makes_no_sense(tmp_path: Path, name: str, value: float) -> None:
    """Read alone, without the rest of their shards, unless that must be looked at."""
    fill(tmp_path).close({})
    path = tmp_path / shard_name(1)
    tensors = {n: x.clone() for n, x in load_file(path).items()}
    tensors[name].view(-1)[0] = value
    some = TrajectoryStore(tmp_path)
    assert [len(x[name]) for x in some.columns(name)] == [2, 2]
    assert not some._checked
    save_file(tensors, path)
    with pytest.raises(StoreError, match=r"shard-00001.* does not match its checksum"):
        list(some.columns(name))


def test_question_numbers_beyond_the_problems_are_looked_at(tmp_path: Path) -> None:
    fill(tmp_path).close({})
    some = TrajectoryStore(tmp_path)
    assert some.question_indices(4).tolist() == [0, 1, 2, 3]
    assert not some._checked
    some.question_indices(3)
    assert some._checked == {1}


def test_shards_that_are_mapped_make_room_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path).close({})
    many = TrajectoryStore(tmp_path)
    expected = [many[i].prompts for i in range(4)]
    monkeypatch.setattr(store, "MAPPED", 1)
    few = TrajectoryStore(tmp_path)
    assert [few[i].prompts for i in (3, 0, 2, 1)] == [expected[i] for i in (3, 0, 2, 1)]
    assert len(few._mapped) == 1
    assert few[-1].prompts == expected[3]
    with pytest.raises(IndexError):
        few[4]


def test_the_shard_that_was_not_read_for_longest_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, num_shards=3).close({})
    monkeypatch.setattr(store, "MAPPED", 2)
    some = TrajectoryStore(tmp_path)
    for question in (0, 2, 1, 4):  # of the shards 0, 1, 0 and 2
        some[question]
    assert list(some._mapped) == [0, 2]


def test_questions_in_order_map_a_shard_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three shards of two questions, the first is never read, and each other once."""
    fill(tmp_path, num_shards=3).close({})
    some, opened = TrajectoryStore(tmp_path), list[str]()
    read = store.load_file
    monkeypatch.setattr(store, "load_file", lambda path: opened.append(path.name) or read(path))
    for index, question in zip((2, 3, 5), some.in_order([2, 3, 5]), strict=True):
        assert int(question.question_index) == int(some[index].question_index)
        assert question.trajectories.thoughts.equal(some[index].trajectories.thoughts)
    assert opened.count("shard-00000.safetensors") == 0
    opened.clear()
    assert len(list(some.in_order(range(2, 6)))) == 4
    assert opened == ["shard-00001.safetensors", "shard-00002.safetensors"]
    with pytest.raises(IndexError):
        list(some.in_order([6]))


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux tells what is mapped")
def test_indices_of_questions_are_gathered_without_the_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tensor that is part of a shard would keep all of it mapped, one shard after the other."""
    fill(tmp_path).close({})
    whole, mapped, joined = TrajectoryStore(tmp_path), list[str](), torch.cat

    def join(parts: list[torch.Tensor]) -> torch.Tensor:
        mapped.append(Path("/proc/self/maps").read_text())
        return joined(parts)

    monkeypatch.setattr(torch, "cat", join)
    assert len(whole.question_indices(4)) == 4
    assert len(mapped) == 1
    assert str(tmp_path) not in mapped[0]
