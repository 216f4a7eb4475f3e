from typing import Any

import aims
import lanes


def part(found: Any) -> dict[str, Any]:
    return {"found": found}


def test_a_ratio_that_is_held_and_one_that_is_not() -> None:
    seconds = {
        lanes.SERVE: [0.002] * 5,
        lanes.STOCK: [0.010] * 5,
        "Jupyter Server": [0.010] * 5,
        "Kernel Gateway": [],
    }
    page = aims.page({"latency": part({"seconds": seconds})})
    assert "stock kernel (0.5 at the least) | 0.20 (0.20-0.20) | yes |" in page
    assert "Jupyter Server | 0.20 (0.20-0.20) | **no** |" in page
    assert "Kernel Gateway | not measured | **no** |" in page


def test_output_is_compared_at_the_largest_size_that_both_have_done() -> None:
    sizes = {"10": {lanes.SERVE: [1.0], lanes.STOCK: [5.0]}, "100": {lanes.SERVE: [10.0], lanes.STOCK: []}}
    stand = aims.output_share("displays", lanes.STOCK, 0.25)({"displays": {"seconds": sizes}})
    assert stand == aims.Stand("0.20 (0.20-0.20)", True)


def test_all_displays_have_to_arrive_and_the_end() -> None:
    arrived = {"k2sandbox": [20_000, ""], "k2sandbox agent": [19_999, ""], "raw pyzmq": [3, "no end"]}
    assert aims.arrived({"arrived": arrived, "sent": 20_000, "failed": {}}) == aims.Stand(
        "19,999 of 20,000", False
    )
    arrived["k2sandbox agent"] = [20_000, "no end"]
    assert not aims.arrived(
        {"arrived": arrived, "sent": 20_000, "failed": {"k2sandbox agent": "no end"}}
    ).held


def test_parts_that_failed_have_no_aims() -> None:
    assert aims.page({"latency": {"error": "it ended with status 1"}}) == ""
