"""What a LatentRM is, as its checkpoint says."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from lightning_ltts.voting.selection import UNFITTED, fitted_in


@dataclass(frozen=True)
class LatentRMSpec:
    """All that fixes a LatentRM except its weights; plain values, stored in every checkpoint."""

    backbone: dict[str, Any]  # Hugging Face configuration, with its model_type
    thought_size: int  # d of the reasoner whose thoughts it reads
    reasoner: str | None = None  # fingerprint of that reasoner
    # parameter of a selection -> its value, fitted on validation
    fitted: dict[str, float] = field(default_factory=dict)
    thought_head: dict[str, Any] | None = None  # options of a CODI head before the score
    reference: bool = False  # whether it reads the greedy trajectory before those it is to score
    reads_answer: bool = False  # whether a score is read after the decoded answer, too
    noise_free: bool = False  # whether it also reads every thought as it was before noise
    # whether the log-probability it gives to an answer is part of the answer's score
    answer_likelihood: bool = False
    end_id: int = 0  # the token between thoughts and answer, where answers are read
    pad_id: int = 0  # fills up answers

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """The specification out of a checkpoint, of this version or of an earlier one."""
        values = {name: value for name, value in stored.items() if name not in UNFITTED}
        return cls(**{**values, "fitted": fitted_in(stored)})

    def identity(self) -> dict[str, Any]:
        """What a fingerprint is made of: it stays what it was before there were later fields."""
        values = asdict(self)
        if not self.answer_likelihood:
            del values["answer_likelihood"]
        fitted = values.pop("fitted")
        early = {name: fitted.pop(name, value) for name, value in UNFITTED.items()}
        return {**values, **early, **({"fitted": fitted} if fitted else {})}
