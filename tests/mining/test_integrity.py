import math
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lightning_ltts.errors import OtherSettingsError, StoreError
from lightning_ltts.files import sha256_of, write_json
from lightning_ltts.mining.integrity import digest_of, senseless
from lightning_ltts.mining.shard_files import shard_name, shard_tensors
from lightning_ltts.mining.store import MANIFEST, StoreWriter, TrajectoryStore, read_manifest
from tests.mining.test_store import fill, make_questions


def with_value(tensor: torch.Tensor, value: float) -> torch.Tensor:
    tensor = tensor.clone()
    tensor.view(-1)[0] = value
    return tensor


FAULTS = [
    ("thoughts", math.nan, "thoughts are not numbers"),
    ("thoughts", math.inf, "thoughts are not numbers"),
    ("reference", math.nan, "thoughts are not numbers"),
    ("labels", math.nan, "labels are no shares"),
    ("labels", 1.5, "labels are no shares"),
    ("prompt_lengths", -1, "prompt lengths do not add up"),
    ("prompt_lengths", 1, "prompt lengths do not add up"),
    ("prompt_lengths", 9, "prompt lengths do not add up"),
    ("thought_counts", 4, "thought counts are out of range"),
    ("reference_counts", -1, "thought counts are out of range"),
    ("votes", 4, "votes are out of range"),
    ("question_index", -5, "question numbers are negative"),
]


@pytest.mark.parametrize(("field", "value", "fault"), FAULTS)
def test_numbers_without_sense(field: str, value: float, fault: str) -> None:
    shard = shard_tensors(make_questions(0))
    assert senseless(shard) is None
    assert senseless({**shard, field: with_value(shard[field], value)}) == fault


def test_numbers_without_sense_are_not_written(tmp_path: Path) -> None:
    questions = make_questions(0)
    questions.trajectories.thoughts[0, 0, 0, 0] = math.nan
    writer = StoreWriter(tmp_path, {}, 1)
    writer.open()
    with pytest.raises(StoreError, match=r"would hold numbers without sense \(thoughts are not"):
        writer.write(0, questions, {})
    assert not writer.has(0)


@pytest.mark.parametrize(
    ("field", "tensor", "fault"),
    [
        ("votes", torch.zeros(3, 4, dtype=torch.long), "the numbers of questions differ"),
        ("thoughts", torch.zeros(2, 4, 2, 8), "the shapes of thoughts do not fit the labels"),
        ("labels", torch.zeros(2, 4), "labels are not"),
        ("labels", torch.tensor(0.0), "labels are not"),
    ],
)
def test_shapes_without_sense(field: str, tensor: torch.Tensor, fault: str) -> None:
    assert fault in str(senseless({**shard_tensors(make_questions(0)), field: tensor}))


@pytest.mark.parametrize(("steps", "fine"), [(1, True), (2, False)])
def test_trajectories_without_thoughts_have_one_label(steps: int, fine: bool) -> None:
    """Of a reasoner that writes its steps: whether the answer is right, and no more."""
    shard = shard_tensors(make_questions(0))
    none = {"thoughts": torch.zeros(2, 4, 0, 8), "thought_counts": torch.zeros(2, 4).long()}
    found = senseless({**shard, **none, "labels": torch.ones(2, 4, steps)})
    assert found == (None if fine else "the shapes of thoughts do not fit the labels")


def test_a_store_with_such_numbers_is_refused_although_its_checksums_agree(tmp_path: Path) -> None:
    fill(tmp_path).close({})
    path = tmp_path / shard_name(1)
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    tensors["thoughts"][0, 0, 0, 0] = math.nan
    save_file(tensors, path, metadata={"counts": "{}"})
    manifest = read_manifest(tmp_path)
    write_json(
        tmp_path / MANIFEST,
        manifest | {"shards": manifest["shards"] | {path.name: sha256_of(path)}},
    )
    with pytest.raises(
        StoreError, match=r"shard-00001.* numbers without sense \(thoughts are not numbers\)"
    ):
        TrajectoryStore(tmp_path, verify=True)


def test_every_changed_byte_of_an_unfinished_stores_shard_is_found(tmp_path: Path) -> None:
    writer = fill(tmp_path)
    path = tmp_path / shard_name(0)
    whole = path.read_bytes()
    for position in range(0, len(whole), 41):
        changed = bytearray(whole)
        changed[position] ^= 1 << position % 8
        path.write_bytes(changed)
        with pytest.raises(StoreError, match=r"shard-00000\.safetensors is damaged"):
            writer.close({})
    path.write_bytes(whole)
    assert writer.close({})["complete"]


def test_the_checksum_sees_names_shapes_and_counts() -> None:
    tensors = {
        "a": torch.zeros(2, 3),
        "b": torch.ones(2, dtype=torch.bfloat16),
        "c": torch.zeros(2, 0),
    }
    digests = {
        digest_of(tensors, "{}"),
        digest_of(tensors, '{"n": 1}'),
        digest_of({**tensors, "a": torch.zeros(3, 2)}, "{}"),
        digest_of({**tensors, "a": torch.zeros(2, 3, dtype=torch.int32)}, "{}"),
        digest_of({"x": tensors["a"], "b": tensors["b"], "c": tensors["c"]}, "{}"),
    }
    assert len(digests) == 5
    assert digest_of(dict(reversed(tensors.items())), "{}") in digests


def test_the_checksum_is_in_the_shard(tmp_path: Path) -> None:
    fill(tmp_path)
    with safe_open(tmp_path / shard_name(0), "pt") as file:
        about = file.metadata()
    assert about["sha256"] == digest_of(load_file(tmp_path / shard_name(0)), about["counts"])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"settings"', "Expecting"),
        (b"[1]", "no object"),
        (b"\xff\xff", "UnicodeDecodeError"),
        (b"{}", "lacks 'settings'"),
        (b'{"settings": {}}', "lacks 'complete'"),
        (b'{"settings": 3, "complete": false}', "'settings' is missing or no object"),
        (b'{"settings": {}, "complete": true}', "'counts' is missing or no object"),
        (
            b'{"settings": {}, "complete": true, "counts": {}, "shards": []}',
            "'shards' is missing or no",
        ),
    ],
)
def test_damaged_manifests(tmp_path: Path, content: bytes, reason: str) -> None:
    fill(tmp_path)
    (tmp_path / MANIFEST).write_bytes(content)
    for use in (lambda: TrajectoryStore(tmp_path), StoreWriter(tmp_path, {"seed": 0}, 2).open):
        with pytest.raises(
            StoreError, match=f"manifest.json is damaged .*{reason}.*delete the store"
        ):
            use()


def test_settings_that_changed_meanwhile_are_found_when_the_store_is_closed(tmp_path: Path) -> None:
    writer = fill(tmp_path)
    write_json(tmp_path / MANIFEST, {"settings": {"seed": 9}, "complete": False})
    with pytest.raises(OtherSettingsError, match="seed=9, but this run has 0"):
        writer.close({})
