"""Model cards: what a model is, how to run it, how it was trained, and what it has been measured to do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from huggingface_hub import ModelCardData

from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.models.latent_rm import LatentRM

CARD = "README.md"
_PAPER = (
    "[Parallel Test-Time Scaling for Latent Reasoning Models](https://arxiv.org/abs/2510.07745)"
)
_CARD = """---
{header}
# license: mit  # yours to choose: uncomment this line, and fill in the licence below
---

# {title}

{about}

| | |
|---|---|
{facts}

## How to run it

`MODEL` stands for this folder, or for its name on the Hub.

    pip install lightning-ltts
    {command}

```python
{code}
```

## How it was trained

{training}

## How well it does

{results}

## Licence

**To be filled in** by who publishes this model, here and in the header of this file.
"""
_REASONER_CODE = """from lightning_ltts.models.latent_lm import LatentReasoner

reasoner = LatentReasoner.from_pretrained("MODEL")
print(reasoner.spec.method, reasoner.spec.num_thoughts)"""
_RM_CODE = """from lightning_ltts.models.latent_rm import LatentRM

latent_rm = LatentRM.from_pretrained("MODEL")
print(latent_rm.spec.thought_size)"""


@dataclass(frozen=True)
class Measured:
    """What a search with a model came to.

    Args:
        problems: what it was measured on, in words.
        settings: of the search, as its manifest has them.
        summary: the content of its `summary.json`.
    """

    problems: str
    settings: Mapping[str, Any]
    summary: Mapping[str, Any]


@dataclass(frozen=True)
class History:
    """What is known of a model's training.

    Args:
        settings: all that determined it, by the names that the command line has for them.
        outcome: what it came to: epochs, and the best value of the metric that was watched.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    outcome: Mapping[str, Any] = field(default_factory=dict)


def model_card(
    model: LatentReasoner | LatentRM,
    title: str,
    history: History | None = None,
    measured: Sequence[Measured] = (),
) -> str:
    """The text of a model's card, in Markdown with the header that the Hub reads.

    Args:
        model: the reasoner or LatentRM.
        title: its name.
        history: how it was trained, where that is known.
        measured: searches with it, each of which gets a table with 95 % intervals.
    """
    is_reasoner = isinstance(model, LatentReasoner)
    kinds = [model.spec.method] if isinstance(model, LatentReasoner) else ["reward-model"]
    tags = ["latent-reasoning", "test-time-scaling", *kinds]
    header = ModelCardData(
        library_name="lightning_ltts",
        pipeline_tag="text-generation" if is_reasoner else None,
        tags=tags,
    )
    return _CARD.format(
        header=header.to_yaml(),
        title=title,
        about=_about(model),
        facts="\n".join(f"| {name} | {value} |" for name, value in _facts(model)),
        command=_command(model),
        code=_REASONER_CODE if is_reasoner else _RM_CODE,
        training=_training(history),
        results="\n\n".join(map(_results, measured)) or _unmeasured(model),
    )


def _about(model: LatentReasoner | LatentRM) -> str:
    if isinstance(model, LatentReasoner):
        return (
            "A latent reasoner: after the question it feeds its own last hidden state back as the "
            "next input for a few steps (thoughts), then writes the answer. Many such trajectories "
            f"can be sampled, and the best chosen, after {_PAPER}."
        )
    return (
        "A latent reward model (LatentRM): it reads a question and the thoughts of a latent "
        "reasoner, and scores every thought, so that the best of many trajectories can be chosen, "
        f"after {_PAPER}."
    )


def _facts(model: LatentReasoner | LatentRM) -> list[tuple[str, Any]]:
    config = model.backbone.config
    size = sum(parameter.numel() for parameter in model.parameters())
    shared = [
        (
            "backbone",
            f"{config.model_type}, {config.num_hidden_layers} layers of width {config.hidden_size}",
        ),
        ("parameters", f"{size:,}"),
        ("data type", str(model.backbone.dtype).removeprefix("torch.")),
    ]
    if isinstance(model, LatentReasoner):
        most = "at most " if model.spec.open_ended else ""
        return [
            ("method", model.spec.method),
            ("thoughts", f"{most}{model.spec.num_thoughts}"),
            ("prompt", f"`{model.spec.prompt_template!r}`"),
            ("answer", f"{model.spec.answer_which}, after `{model.spec.answer_marker!r}`"),
            *shared,
        ]
    return [
        ("reads thoughts of width", model.spec.thought_size),
        ("of the reasoner with fingerprint", model.spec.reasoner or "not known"),
        ("reads the greedy trajectory", "yes" if model.spec.reference else "no"),
        ("scores the answer", "yes" if model.spec.reads_answer else "no"),
        *((f"fitted {name}", f"{value:.4g}") for name, value in sorted(model.spec.fitted.items())),
        *shared,
    ]


def _command(model: LatentReasoner | LatentRM) -> str:
    """A search with the model over a file of problems."""
    start = "ltts predict experiment=files/search test=FILE"
    if isinstance(model, LatentReasoner):
        return f"{start} reasoner=MODEL latent_rm=null model.init_args.beam=null"
    return f"{start} reasoner=REASONER latent_rm=MODEL"


def _training(history: History | None) -> str:
    if history is None or not history.settings:
        return "Not recorded in what this folder was written from."
    outcome = ", ".join(f"{name}: {_short(value)}" for name, value in history.outcome.items())
    settings = "\n".join(
        f"{name}={value}"
        for name, value in sorted(history.settings.items())
        if value is not None and name != "ckpt_path"
    )
    return (
        f"By `ltts fit` of lightning_ltts. {f'It ended with {outcome}.' if outcome else ''}\n\n"
        "<details><summary>All settings that determined it</summary>\n\n"
        f"```text\n{settings}\n```\n\n</details>"
    )


def _short(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value


def _unmeasured(model: LatentReasoner | LatentRM) -> str:
    given = "reasoner" if isinstance(model, LatentReasoner) else "latent_rm"
    return (
        "Not measured yet, as far as this folder knows. `ltts predict` with "
        f"`{given}=MODEL` measures it; `ltts export ... --results RUN` puts the table here."
    )


def _results(measured: Measured) -> str:
    """A table of accuracies, greedy decoding first, and what they were measured on."""
    summary, settings = measured.summary, measured.settings
    rows = []
    for name, line in summary["results"].items():
        low, high = (f"{bound:.1%}" for bound in line["interval"])
        gain = line.get("against_greedy") or {}
        points = "{gain:+.1f} ({low:+.1f} to {high:+.1f})".format(
            **{key: 100 * value for key, value in gain.items()}
        ) if gain else ""  # fmt: skip
        rows.append(f"| {name} | {line['accuracy']:.1%} | {low} to {high} | {points} |")
    sampler = settings.get("sampler")
    if isinstance(sampler, dict):
        options = ", ".join(f"{k}={v}" for k, v in sampler.items() if k != "class")
        sampler = f"{sampler.get('class')}({options})"
    about = (
        f"{summary['num_problems']:,} problems of {measured.problems}, "
        f"{settings.get('num_samples')} samples each by `{sampler}`, seed {settings.get('seed')}. "
        "Intervals are of 95 %, by bootstrap over problems; differences to greedy decoding are "
        "paired."
    )
    head = "| method | accuracy | interval | points above greedy |\n|---|---|---|---|"
    return f"{about}\n\n{head}\n" + "\n".join(rows)
