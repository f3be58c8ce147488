r"""Answers in LaTeX, as MATH has them: read, reduced to one form, and graded by `math-verify`.

A number is an exact rational, as everywhere. What is no number is the LaTeX of its reduced form, so
that equal answers are equal texts and vote together. Whether an answer is right is the library's
word alone.
"""

import logging
import re
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from lightning_ltts.data.answers import MAX_DIGITS, Answer
from lightning_ltts.data.truths import parse_truth, plain_number
from lightning_ltts.errors import ConfigError

MAX_CHARACTERS = 400  # of an answer; a longer text is none
MAX_TEXT = 10_000  # of a text that the library searches for an answer
MAX_POWER = 1000  # of what is evaluated: numbers with such exponents cannot be interrupted
SECONDS = 3.0  # of a processor that one answer may take to be read, and as many to be compared
TOLERANCE = Fraction(1, 10**6)  # of math-verify's, between decimals

_BOXED = re.compile(r"\\(?:boxed|fbox)\s*(?=[{\d])")
_IMAGINARY = re.compile(r"(?<=\d)i(?![a-zA-Z])")  # the library takes "5 i" for a complex number
_PERCENT = re.compile(r"\s*\\?%$")


@dataclass(frozen=True)
class LatexTruth:
    r"""The right answer of a problem, in LaTeX; it equals what `math-verify` says is the same.

    It is asked in this order, what is right first: `x=5` is right for 5, and `\frac{2}{4}` and 0.5
    are for `\frac{1}{2}`.

    Args:
        text: the answer without what boxes it.
    """

    text: str

    def __eq__(self, other: object) -> bool:
        if isinstance(other, LatexTruth):
            return self.text == other.text
        return isinstance(other, Fraction | str) and _same(self.text, other)

    def __hash__(self) -> int:
        return hash(self.text)

    def __str__(self) -> str:
        return self.text


Truth = Answer | LatexTruth  # what equals the right answers of a problem


def read_latex(text: str, whole: bool = True) -> Answer | None:
    r"""The answer that a text gives in LaTeX, in the form in which answers vote; `None` for none.

    Args:
        text: what is boxed last in it is the answer.
        whole: where nothing is boxed, the whole text is the answer; otherwise what the library
            finds, first after words such as "the answer is".

    >>> read_latex(r"so \boxed{\frac{2}{4}}"), read_latex(r"\frac{1}{\sqrt{2}}")
    (Fraction(1, 2), '\\frac{\\sqrt{2}}{2}')

    Raises:
        ConfigError: `math-verify` is not installed.
    """
    require_library()
    inner = boxed(text)
    if inner is None and not whole:
        return _reduced_form(text) if len(text) <= MAX_TEXT else None
    inner = _bare(text if inner is None else inner)
    if not inner or len(inner) > MAX_CHARACTERS:
        return None
    try:
        return parse_truth(inner)
    except ValueError:
        return _reduced_form(_in_box(inner))


def boxed(text: str) -> str | None:
    r"""What the last `\boxed` in a text holds, braces balanced; `None` where there is none.

    >>> boxed(r"\boxed{1} or \boxed{\frac{1}{2}}."), boxed("12")
    ('\\frac{1}{2}', None)
    """
    starts = [match.end() for match in _BOXED.finditer(text)]
    if not starts:
        return None
    rest, depth = text[starts[-1] :], 0
    if rest[0] != "{":
        return rest[0]
    for place, sign in enumerate(rest):
        depth += (sign == "{") - (sign == "}")
        if depth == 0:
            return rest[1:place]
    return rest[1:]  # cut off


def require_library() -> None:
    """Refuses answers in LaTeX where nothing reads them.

    Raises:
        ConfigError: `math-verify` is not installed.
    """
    if not _installed():
        raise ConfigError(
            "answers in LaTeX are compared by math-verify, which is not installed; install the extra "
            "for it: pip install 'lightning-ltts[math]'"
        )


@lru_cache(maxsize=1)
def _installed() -> bool:
    return find_spec("math_verify") is not None


def _bare(text: str) -> str:
    """An answer without space, a sentence's end or a percent sign around it."""
    return _PERCENT.sub("", text.strip().rstrip(".").strip().strip("$").strip())


def _in_box(text: str) -> str:
    return rf"\boxed{{{_IMAGINARY.sub(' i', text)}}}"


# -- what the library reads and says


@lru_cache(maxsize=2**14)
def _parsed(text: str) -> tuple[Any, ...]:
    """What math-verify reads: an expression of sympy and the text of it, or only the latter."""
    from math_verify import parse  # takes seconds to import

    # both say that they have no limit of time, which is here
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    return tuple(_within_time(lambda: parse(text, parsing_timeout=None)) or ())


@lru_cache(maxsize=2**16)
def _same(truth: str, answer: Answer) -> bool:
    """Whether an answer is the right one."""
    from math_verify import verify

    value = read_latex(truth)
    if value == answer:
        return True
    if isinstance(answer, Fraction):
        if isinstance(value, Fraction) and abs(value - answer) > TOLERANCE:
            return False
        answer = plain_number(answer)
    if len(answer) > MAX_CHARACTERS:
        return False
    right, given = (list(_parsed(_in_box(_bare(text)))) for text in (truth, answer))
    if not right or not given or not _is_small(right[0]) or not _is_small(given[0]):
        return False
    return bool(_within_time(lambda: verify(right, given, timeout_seconds=None)))


@lru_cache(maxsize=2**14)
def _reduced_form(text: str) -> Answer | None:
    """The form in which the expression in a text votes."""
    found = _parsed(text)
    if not found:
        return None
    expression, written = found[0], " ".join(str(found[-1]).split())
    if isinstance(expression, str) or not _is_small(expression):
        return written or None
    return _within_time(lambda: _form(_reduced(expression))) or written


def _reduced(expression: Any) -> Any:
    """An expression, with its parts, as simple as sympy can make it; `x = 5` is 5."""
    import sympy
    from sympy.core.function import AppliedUndef

    if isinstance(expression, sympy.Eq) and isinstance(expression.lhs, sympy.Symbol | AppliedUndef):
        return _reduced(expression.rhs)
    if isinstance(expression, sympy.MatrixBase):
        return sympy.ImmutableMatrix(expression.applyfunc(_reduced))
    if isinstance(expression, sympy.Tuple | sympy.FiniteSet | sympy.Interval | sympy.Union):
        return expression.func(*map(_reduced, expression.args))
    if isinstance(expression, sympy.core.relational.Relational):
        return expression.canonical
    if isinstance(expression, sympy.Expr):
        return sympy.simplify(sympy.expand(expression.doit()))
    return expression


def _form(value: Any) -> Answer | None:
    """A reduced expression as a number, or as LaTeX that is read as it again; `None` for others."""
    import sympy

    if isinstance(value, sympy.Rational | sympy.Float):
        number = Fraction(str(value))
        short = max(abs(number.numerator), number.denominator) < 10**MAX_DIGITS
        return number if short else None
    if isinstance(value, sympy.Symbol) and len(value.name) > 1:
        return rf"\text{{{value.name}}}"
    parts = (sympy.Expr, sympy.MatrixBase, sympy.Tuple, sympy.Set, sympy.core.relational.Relational)
    return str(sympy.latex(value)) if isinstance(value, parts) else None


def _is_small(expression: Any) -> bool:
    """Whether evaluating cannot run away: a huge integer's arithmetic is not to be interrupted.

    Sums, integrals and limits are left as they are written, too.
    """
    import sympy
    from sympy.concrete.expr_with_limits import ExprWithLimits

    if isinstance(expression, str | sympy.MatrixBase):
        return True
    for part in sympy.preorder_traversal(expression):
        if isinstance(part, ExprWithLimits | sympy.Limit):
            return False
        if isinstance(part, sympy.Pow):
            tower = part.base.is_number and part.exp.has(sympy.Pow, sympy.factorial)
            numbers = part.exp.atoms(sympy.Number)
            if tower or any(n.is_finite and abs(n) > MAX_POWER for n in numbers):
                return False
        if isinstance(part, sympy.factorial | sympy.binomial) and any(
            abs(n) > MAX_POWER for n in part.atoms(sympy.Integer)
        ):
            return False
    return True


def _within_time(compute: Callable[[], Any]) -> Any:
    """What is computed; `None` where it takes too long, or cannot be.

    The time is that of the processor, so that a busy machine changes no answer. It is taken by a
    signal, which only the main thread can get; others have no limit.
    """
    from math_verify.errors import TimeoutException

    def stop(*_: object) -> None:
        raise TimeoutException

    timed = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGPROF, stop) if timed else None
    try:
        if timed:
            # again and again: one that comes in a callback of the garbage collector is lost
            signal.setitimer(signal.ITIMER_PROF, SECONDS, SECONDS / 10)
        return compute()
    except (Exception, TimeoutException):  # sympy fails in many ways on what a model can write
        return None
    finally:
        if timed:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, before or signal.SIG_DFL)
