from collections.abc import Callable

from turns import reason, take_turns


def test_each_has_its_turn_in_each_round() -> None:
    order: list[str] = []

    def lane(name: str) -> Callable[[], int]:
        return lambda: order.append(name) or len(order)  # type: ignore[func-returns-value]

    found = take_turns({"a": lane("a"), "b": lane("b")}, 5, {}, warm=2)
    assert [len(values) for values in found.values()] == [5, 5]
    rounds = [set(order[i : i + 2]) for i in range(0, len(order), 2)]
    assert rounds == [{"a", "b"}] * 7
    assert min(found["a"] + found["b"]) == 5  # the first rounds are not kept


def test_one_that_fails_has_no_more_turns() -> None:
    left = [1, 2]
    failed: dict[str, str] = {"gone": "does not start"}
    found = take_turns({"a": left.pop, "b": lambda: 7, "gone": lambda: 8}, 4, failed)
    assert found == {"a": [2, 1], "b": [7, 7, 7, 7], "gone": []}
    assert failed["a"].startswith("IndexError: ")


def test_two_rounds_at_the_least() -> None:
    assert len(take_turns({"a": lambda: 1}, 9, {}, seconds=0)["a"]) == 2


def test_reason_is_one_line_that_is_the_same_each_time() -> None:
    assert reason(ValueError("<x at 0x7f12ab>\n is bad")) == "ValueError: <x> is bad"
    assert reason(TimeoutError()) == "TimeoutError"
