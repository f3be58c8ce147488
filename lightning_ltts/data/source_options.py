"""Options that the sources of problems share."""

from collections.abc import Sequence
from typing import Literal, get_args

from lightning_ltts.data.latex_answers import require_library
from lightning_ltts.data.ranges import require_whole
from lightning_ltts.data.row_fields import FIELDS
from lightning_ltts.errors import ConfigError, shorten

AnswerIs = Literal["number", "text", "latex"]
Ids = Literal["row", "question"]


def check_options(
    owner: str,
    limit: int | None,
    answers: str,
    ids: str,
    columns: dict[str, str] | None,
    leave_out: Sequence[str],
    only_numbers: bool,
) -> None:
    """Refuses options of a source that cannot be.

    Raises:
        ConfigError: naming the option and its `owner`.
    """
    if unknown := set(columns or {}) - set(FIELDS):
        raise ConfigError(
            f"columns of {owner} names the field {shorten(min(unknown))}, which problems do not "
            f"have; they have {', '.join(FIELDS)}"
        )
    if isinstance(leave_out, str) or not all(isinstance(answer, str) for answer in leave_out):
        raise ConfigError(
            f"leave_out={shorten(leave_out)} of {owner} must be a list of texts, the answers whose rows "
            "are left out"
        )
    if only_numbers and answers != "number":
        raise ConfigError(
            f"only_numbers of {owner} leaves out all that is no number, but answers={answers}; leave "
            "one of them out"
        )
    if answers == "latex":
        require_library()
    if limit is not None:
        require_whole(owner, "limit", limit, 1, remedy="leave it out to keep all problems")
    for name, value, known in (
        ("answers", answers, get_args(AnswerIs)),
        ("ids", ids, get_args(Ids)),
    ):
        if value not in known:
            raise ConfigError(
                f"{name}={shorten(value)} of {owner} is not known; use one of {', '.join(known)}"
            )
