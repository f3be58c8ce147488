import pytest

from lightning_ltts.data.ranges import SIZE_FACTOR, Bound, require_number, require_whole
from lightning_ltts.errors import ConfigError


def test_whole_numbers_in_range() -> None:
    for value in (0, 7, 10):
        require_whole("Thing", "size", value, 0, 10)
    require_whole("Thing", "size", 10**100, 1)


@pytest.mark.parametrize("value", [-1, 11, 1.0, float("nan"), float("inf"), True, "5", None, [5]])
def test_anything_else(value: object) -> None:
    with pytest.raises(
        ConfigError, match=r"size=.* of Thing must be a whole number from 0 to 10; see there"
    ):
        require_whole("Thing", "size", value, 0, 10, "see there")


def test_the_message_is_short() -> None:
    with pytest.raises(ConfigError) as caught:
        require_whole("Thing", "size", "9" * 10**7, 0)
    assert str(caught.value).endswith("9... of Thing must be a whole number of at least 0")
    assert len(str(caught.value)) < 150


def test_numbers_in_range() -> None:
    for value in (0, 0.5, 1, 1.0):
        require_number("Thing", "share", value, 0, 1)
    require_number("Thing", "lr", 1e300, open_ends=True)
    require_number("Thing", "lr", 10**400)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf"), True, "5", None, [1]])
def test_no_number_in_range(value: object) -> None:
    with pytest.raises(ConfigError, match=r"share=.* of Thing must be a number from 0 to 1; hm"):
        require_number("Thing", "share", value, 0, 1, remedy="hm")


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), float("-inf")])
def test_ends_may_be_left_out(value: float) -> None:
    with pytest.raises(ConfigError, match=r"lr=.* of Thing must be a number above 0$"):
        require_number("Thing", "lr", value, open_ends=True)
    with pytest.raises(ConfigError, match=r"lr=.* of Thing must be a number between 0 and 1$"):
        require_number("Thing", "lr", value, 0, 1, open_ends=True)


def test_a_bound_can_be_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="from 1 to 100; LTTS_SIZE_FACTOR=10 in the environment"):
        require_whole("Thing", "size", 101, 1, Bound(100))
    with pytest.raises(ConfigError, match=r"from 1 to 100$"):
        require_whole("Thing", "size", 0, 1, Bound(100))
    monkeypatch.setenv(SIZE_FACTOR, "2.5")
    require_whole("Thing", "size", 250, 1, Bound(100))
    with pytest.raises(ConfigError, match="from 1 to 250"):
        require_whole("Thing", "size", 251, 1, Bound(100))


@pytest.mark.parametrize("factor", ["0.5", "nan", "inf", "-1", "ten", ""])
def test_a_factor_that_is_none(factor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SIZE_FACTOR, factor)
    with pytest.raises(ConfigError, match=r"LTTS_SIZE_FACTOR=.* must be a number of at least 1"):
        require_whole("Thing", "size", 5, 1, Bound(100))
