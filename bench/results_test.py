from pathlib import Path
from typing import Any

import results

from bench import wrong

MACHINE = {"date": "2026-11-26", "cpus": 2}
ADDED = {
    "found": {
        "times": {
            "k2sandbox serve, TCP": [0.003, 0.003],
            "k2sandbox agent in it, unix socket": [0.002, 0.002],
        },
        "failed": {},
    }
}


def part(**found: Any) -> dict[str, Any]:
    return {"machine": MACHINE, "took": 1.5, **found}


def test_page_is_in_the_order_of_parts_and_tells_of_failures() -> None:
    page = results.page({"hour": part(error="it had not ended after 5 minutes"), "added": part(**ADDED)})
    assert page.index("## What the server adds to a run") < page.index("## An hour of mixed load")
    assert "adds 1.00 ms at the median" in page
    assert "**Failed:** it had not ended after 5 minutes." in page
    assert "<sub>added: 2 s, date 2026-11-26.</sub>" in page
    assert page.count("cpus 2") == 1


def test_what_is_written_is_read_and_others_are_kept(tmp_path: Path) -> None:
    out = tmp_path / "doc" / "bench"
    assert results.read(out) == {}
    results.write(out, {"added": part(**ADDED)})
    assert results.read(out) == {"added": part(**ADDED)}
    assert (out / "results.md").read_text() == results.page({"added": part(**ADDED)})
    assert sorted(path.name for path in out.iterdir()) == ["results.json", "results.md"]


def test_results_of_another_form_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"latency": {"raw": [1, 2]}, "machine": {"cpus": 2}}')
    assert results.read(tmp_path) == {}


def test_our_failures_and_those_of_parts_count() -> None:
    assert wrong(part(error="it ended with status 1"))
    assert wrong(part(found={"10": {"failed": {"k2sandbox agent": "no end"}}}))
    assert not wrong(part(found={"10": {"failed": {"Kernel Gateway": "MemoryError"}}}))
