from clients import Output
from output import BASE64, WORKS, page, sizes


def test_what_is_not_complete_is_seen() -> None:
    whole = {
        "lines": Output(text=2 * 10 + 3),
        "lines, each flushed": Output(text=2 * 10 + 3),
        "displays": Output(displays=11),
        "MB in one print": Output(text=11_000_001),
        "images of 4 MB": Output(images=11 * BASE64),
    }
    for work in WORKS:
        assert work.complete(whole[work.unit], 11)
        assert not work.complete(whole[work.unit], 12)
        assert not work.complete(Output(), 11)
        compile(work.code.format(n=11), work.unit, "exec")


def test_sizes() -> None:
    assert sizes(100_000) == [1000, 10_000, 100_000]
    assert sizes(5) == [1, 5]


def test_page_tells_growth_and_who_was_left_out() -> None:
    seconds = {
        "10": {"k2sandbox": [0.1, 0.1], "slow": [1.0, 1.0]},
        "100": {"k2sandbox": [1.0, 1.0], "slow": [10.0, 10.0]},
        "1000": {"k2sandbox": [10.0, 10.0]},
    }
    text = page({"lines": {"seconds": seconds, "failed": {}, "left out": {"slow": 100.0}}})
    assert (
        "|  | 10 lines: s | 100 lines: s | 1,000 lines: s | grows with the power | k2sandbox / this |" in text
    )
    assert "| k2sandbox | 0.1 | 1 | 10 | 1.00 | 1.00 (1.00-1.00) |" in text
    assert "| slow | 1 | 10 | (100) | 1.00 | 0.10 (0.10-0.10) at 100 |" in text
    assert "What is in brackets was left out" in text
