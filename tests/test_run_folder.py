import json
import os
import signal
import time
from pathlib import Path

import pytest

from lightning_ltts.errors import ConfigError, InUseError, OtherSettingsError, StoreError
from lightning_ltts.run_folder import (
    FIT_MANIFEST,
    LOCK,
    FitFolder,
    FolderLock,
    identity,
    remove_stale_lock,
)


def test_another_process_is_refused_until_the_first_dies(tmp_path: Path) -> None:
    """SIGKILL, so that nothing tidies up: what is left of the lock holds nobody off."""
    reading, writing = os.pipe()
    holder = os.fork()
    if holder == 0:
        FolderLock(tmp_path).acquire()
        os.write(writing, b"held")
        time.sleep(60)
        os._exit(0)
    try:
        assert os.read(reading, 4) == b"held"
        with pytest.raises(
            InUseError, match=f"is in use by process {holder} on .* give another folder"
        ):
            FolderLock(tmp_path).acquire()
    finally:
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
    assert (tmp_path / LOCK).exists()
    with FolderLock(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def try_in_child(folder: Path) -> bool:
    """Whether a forked process, which may share what this one has open, gets the lock."""
    child = os.fork()
    if child == 0:
        import lightning_ltts.run_folder as module

        module._held.clear()
        try:
            FolderLock(folder).acquire()
        except InUseError:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_parts_of_one_run_share_the_lock(tmp_path: Path) -> None:
    one, two = FolderLock(tmp_path / "run"), FolderLock(tmp_path / "other/../run")
    (tmp_path / "other").mkdir()
    one.acquire()
    two.acquire()
    one.release()
    one.release()  # once is enough
    assert not try_in_child(tmp_path / "run")
    two.release()
    assert try_in_child(tmp_path / "run")


def test_a_forked_worker_does_not_keep_it(tmp_path: Path) -> None:
    """A worker of a killed run may live for some seconds."""
    reading, writing = os.pipe()
    run = os.fork()
    if run == 0:
        FolderLock(tmp_path).acquire()
        worker = os.fork()
        if worker == 0:
            time.sleep(30)
            os._exit(0)
        os.write(writing, str(worker).encode())
        time.sleep(30)
        os._exit(0)
    worker = int(os.read(reading, 20))
    try:
        assert not try_in_child(tmp_path)
        os.kill(run, signal.SIGKILL)
        os.waitpid(run, 0)
        assert try_in_child(tmp_path)
    finally:
        os.kill(worker, signal.SIGKILL)


def test_other_processes_of_a_distributed_run_take_none(tmp_path: Path) -> None:
    with FolderLock(tmp_path / "run", active=False):
        assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file/run cannot be written"):
        FolderLock(tmp_path / "file/run").acquire()


def fit_folder(tmp_path: Path, lr: float = 0.1, **options) -> FitFolder:
    return FitFolder(
        tmp_path,
        tmp_path / "checkpoints",
        {"seed_everything": 0, "model.init_args.lr": lr},
        **options,
    )


def train(folder: FitFolder, finished: bool) -> None:
    folder.look()
    folder.begin()
    folder.checkpoints.mkdir(exist_ok=True)
    folder.last.write_text("weights")
    if finished:
        folder.finish({"epochs": 3})


def test_same_settings_go_on_and_end(tmp_path: Path) -> None:
    assert fit_folder(tmp_path).look().go_on_from is None
    train(fit_folder(tmp_path), finished=False)
    found = fit_folder(tmp_path).look()
    assert (found.finished, found.go_on_from) == (None, tmp_path / "checkpoints/last.ckpt")
    train(fit_folder(tmp_path), finished=True)
    found = fit_folder(tmp_path).look()
    assert (found.finished, found.go_on_from) == ({"epochs": 3}, None)


@pytest.mark.parametrize("finished", [False, True])
def test_other_settings_are_refused(tmp_path: Path, finished: bool) -> None:
    train(fit_folder(tmp_path), finished)
    with pytest.raises(
        OtherSettingsError,
        match=r"made with model.init_args.lr=0.1, but this run has 0.2.*--overwrite",
    ):
        fit_folder(tmp_path, lr=0.2).look()


def test_settings_of_a_run_without_any_checkpoint_do_not_count(tmp_path: Path) -> None:
    fit_folder(tmp_path).begin()
    assert fit_folder(tmp_path, lr=0.2).look().go_on_from is None


def test_overwriting_leaves_no_old_checkpoint(tmp_path: Path) -> None:
    train(fit_folder(tmp_path), finished=True)
    (tmp_path / "checkpoints/sharded.ckpt").mkdir()
    new = fit_folder(tmp_path, lr=0.2, overwrite=True)
    new.look()
    assert new.last.exists(), "looking changes nothing"
    new.begin()
    assert not list(new.checkpoints.iterdir())
    assert fit_folder(tmp_path, lr=0.2).look().go_on_from is None


def test_overwriting_that_is_killed_never_passes_old_checkpoints_for_new_ones(
    tmp_path: Path, monkeypatch
) -> None:
    train(fit_folder(tmp_path), finished=False)
    new = fit_folder(tmp_path, lr=0.2, overwrite=True)
    new.look()

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    unlink = Path.unlink
    with monkeypatch.context() as patched:
        patched.setattr(
            Path, "unlink", lambda p, **o: killed(p) if p.suffix == ".ckpt" else unlink(p, **o)
        )
        with pytest.raises(KeyboardInterrupt):
            new.begin()
    with pytest.raises(StoreError, match="settings are not known"):
        fit_folder(tmp_path, lr=0.2).look()
    assert fit_folder(tmp_path, lr=0.2, overwrite=True).look().go_on_from is None


def test_a_checkpoint_of_the_folder_goes_on_with_new_settings(tmp_path: Path) -> None:
    train(fit_folder(tmp_path), finished=True)
    last = str(tmp_path / "checkpoints/last.ckpt")
    more = fit_folder(tmp_path, lr=0.2, given=last)
    train(more, finished=False)
    assert fit_folder(tmp_path, lr=0.2).look().go_on_from == Path(last)
    with pytest.raises(ConfigError, match="--overwrite would remove the checkpoint"):
        fit_folder(tmp_path, given=last, overwrite=True).look()
    assert fit_folder(tmp_path, lr=0.3, given="last").look().finished is None


def test_a_checkpoint_from_elsewhere_is_a_setting(tmp_path: Path) -> None:
    other = tmp_path / "other.ckpt"
    other.write_text("a")
    train(fit_folder(tmp_path / "run", given=str(other)), finished=False)
    assert fit_folder(tmp_path / "run", given=str(other)).look().go_on_from is not None
    with pytest.raises(
        OtherSettingsError, match=r"ckpt_path='a file with SHA-256 .*but this run has None"
    ):
        fit_folder(tmp_path / "run").look()
    other.write_text("b")
    with pytest.raises(OtherSettingsError, match="ckpt_path"):
        fit_folder(tmp_path / "run", given=str(other)).look()


def test_checkpoints_without_a_manifest_are_refused(tmp_path: Path) -> None:
    train(fit_folder(tmp_path), finished=True)
    (tmp_path / FIT_MANIFEST).unlink()
    with pytest.raises(
        StoreError, match="whose settings are not known; go on from one with ckpt_path="
    ):
        fit_folder(tmp_path).look()
    assert (
        fit_folder(tmp_path, given=str(tmp_path / "checkpoints/last.ckpt")).look().finished is None
    )


@pytest.mark.parametrize("content", ['{"set', "[]", "{}", '{"settings": 3, "finished": null}'])
def test_a_damaged_manifest_is_refused(tmp_path: Path, content: str) -> None:
    train(fit_folder(tmp_path), finished=True)
    (tmp_path / FIT_MANIFEST).write_text(content)
    with pytest.raises(StoreError, match=r"fit\.manifest\.json is damaged \(.*--overwrite"):
        fit_folder(tmp_path).look()
    assert fit_folder(tmp_path, overwrite=True).look().finished is None


def test_paths_stand_for_what_is_in_them(tmp_path: Path) -> None:
    one, two = tmp_path / "a.ckpt", tmp_path / "b.ckpt"
    one.write_text("x")
    two.write_text("x")
    assert identity(str(one)) == identity(str(two))
    assert "SHA-256" in identity(str(one))
    model = tmp_path / "model"
    model.mkdir()
    assert identity(str(model)) == str(model)
    (model / "config.json").write_text(json.dumps({}))
    before = identity(str(model))
    (model / "config.json").write_text(json.dumps({"n": 1}))
    assert identity(str(model)) != before
    assert identity("gpt2") == "gpt2"
    assert identity("x\0.ckpt") == "x\0.ckpt"


def test_a_stale_lock_is_removed(tmp_path: Path) -> None:
    remove_stale_lock(tmp_path)  # there is none
    (tmp_path / LOCK).write_text("{}")
    remove_stale_lock(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_data_sets_folder_stands_for_what_is_in_it(tmp_path: Path) -> None:
    """Also where a part of it is named."""
    datasets = pytest.importorskip("datasets")
    folder, seen = tmp_path / "saved", set[str]()
    for answer in ("1", "2"):
        rows = datasets.Dataset.from_list([{"question": "q", "answer": answer}])
        datasets.DatasetDict(train=rows).save_to_disk(folder)
        seen |= {identity(str(folder)), identity(f"{folder}:train")}
        assert identity(str(folder)) == identity(f"{folder}:train")
    assert len(seen) == 2
    assert all("SHA-256" in text for text in seen)
