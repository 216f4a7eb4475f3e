from report import against, failures, spread, table


def test_table() -> None:
    assert table(["a", "b"], [["1", "x|y"]]) == "| a | b |\n| --- | --- |\n| 1 | x\\|y |\n"


def test_against() -> None:
    assert against([2.0, 2.0], [1.0, 1.0]) == "2.00 (2.00-2.00)"
    assert against([], [1.0]) == against([1.0], []) == ""


def test_spread_is_in_milliseconds() -> None:
    assert spread([n / 1000 for n in range(1, 2001)], 1) == ["1,000.0", "1,800.0", "1,980.0"]
    assert spread([]) == ["", "", ""]


def test_failures() -> None:
    assert failures({}) == ""
    assert failures({"a server": "no memory"}) == "\n**a server failed:** no memory\n"
