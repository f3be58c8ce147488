"""What of a configuration determines the result of a training."""

from collections.abc import Iterator
from typing import Any

from lightning_ltts.run_folder import identity

# Trainer options that change what is learned. Where it runs (devices, nodes, strategy) does not
# count, so that a run can go on where there is room; the bar, the logger and `max_time`, which only
# cuts a run into parts, do not either.
TRAINER = (
    "precision",
    "max_epochs",
    "min_epochs",
    "max_steps",
    "min_steps",
    "limit_train_batches",
    "limit_val_batches",
    "overfit_batches",
    "val_check_interval",
    "check_val_every_n_epoch",
    "accumulate_grad_batches",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "use_distributed_sampler",
    "sync_batchnorm",
    "reload_dataloaders_every_n_epochs",
)
# callbacks that only watch
WATCHING = {
    "LearningRateMonitor",
    "Throughput",
    "ThroughputMonitor",
    "DeviceStatsMonitor",
    "ModelSummary",
    "RichModelSummary",
    "TQDMProgressBar",
    "RichProgressBar",
    "QuestionBar",
    "Timer",
}
# options of model and data that no result depends on: where a store is, how much is computed at
# once, problems of another command
ELSEWHERE = {"store", "token_budget", "compile", "eval_batch_size", "test"}
# options at any depth: how problems are read, which are the same anyway; beside a `limit` their ids
# may differ
READ_SO = {"streaming"}
_FILES = {"dirpath"}  # of ModelCheckpoint: the folder itself


def fit_settings(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of a training, flat, under the names that the command line has for them.

    A path of a file or model stands for what is in it.

    Args:
        config: of LightningCLI's `fit`, with all defaults.
    """
    trainer = config.get("trainer") or {}
    settings = {"seed_everything": config.get("seed_everything")}
    settings |= {f"trainer.{name}": _plain(trainer.get(name)) for name in TRAINER}
    settings |= dict(_callbacks(trainer.get("callbacks") or []))
    for part in ("model", "data"):
        given = config.get(part) or {}
        options = given.get("init_args") or {}
        options = {name: value for name, value in options.items() if name not in ELSEWHERE}
        settings |= dict(_flat({**given, "init_args": options}, part))
    return settings


def _callbacks(callbacks: Any) -> Iterator[tuple[str, Any]]:
    """Settings of the callbacks, each under its class; from the second of a class on, numbered."""
    seen: dict[str, int] = {}
    for callback in callbacks if isinstance(callbacks, list) else [callbacks]:
        kind = str(callback.get("class_path")).rsplit(".", 1)[-1]
        if kind in WATCHING:
            continue
        seen[kind] = seen.get(kind, 0) + 1
        name = f"trainer.callbacks.{kind}" + (f".{seen[kind]}" if seen[kind] > 1 else "")
        options = callback.get("init_args") or {}
        options = {key: value for key, value in options.items() if key not in _FILES}
        yield from _flat({"class_path": callback.get("class_path"), "init_args": options}, name)


def _flat(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The single values of a nested configuration; classes without packages, which may move."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in READ_SO and value.get("limit") is None:
                continue
            short = (
                inner.rsplit(".", 1)[-1]
                if key == "class_path" and isinstance(inner, str)
                else inner
            )
            yield from _flat(short, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _flat(inner, f"{name}.{number}")
    else:
        yield name, _plain(value)


def _plain(value: Any) -> Any:
    """What JSON can hold."""
    if value is None or isinstance(value, bool | int | float):
        return value
    return identity(str(value))
