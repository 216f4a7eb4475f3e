import pytest
from stats import percentile, ratio, slope


def test_percentile_is_one_of_the_values() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert [percentile(values, p) for p in (0, 20, 21, 50, 90, 99, 100)] == [1, 1, 2, 3, 5, 5, 5]
    assert percentile([7.0], 99) == 7
    assert percentile(range(1, 101), 99) == 99


def test_ratio_of_the_same_is_one() -> None:
    assert ratio([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) == (1, 1, 1)


def test_ratio_pairs_rounds() -> None:
    theirs = [1.0, 10.0, 100.0, 3.0, 50.0]  # rounds differ much, and ours is twice as slow in each
    assert ratio([2 * t for t in theirs], theirs) == (2, 2, 2)


def test_interval_of_ratio_holds_it() -> None:
    ours, theirs = [float(n % 7 + 1) for n in range(50)], [float(n % 5 + 1) for n in range(50)]
    value, low, high = ratio(ours, theirs)
    assert value == pytest.approx(4 / 3)
    assert low <= value <= high
    assert low < high


def test_ratio_takes_the_rounds_that_both_have() -> None:
    assert ratio([2.0, 2.0], [1.0, 1.0, 1.0])[1:] == (2, 2)


def test_slope_is_the_power() -> None:
    assert slope([1, 10, 100], [3, 30, 300]) == pytest.approx(1)
    assert slope([1, 10, 100], [2, 200, 20_000]) == pytest.approx(2)
    assert slope([10, 100], [5, 5]) == pytest.approx(0)
