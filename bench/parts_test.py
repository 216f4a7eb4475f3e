from importlib import import_module

import pytest
from parts import PARTS, chosen


def test_a_name_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no part 'latenzy': want some of latency, contexts"):
        chosen("output,latenzy", "quick")


def test_chosen() -> None:
    assert [p.module for p in chosen("output, latency", "default")] == ["latency", "output"]
    assert [p.module for p in chosen("hour", "quick")] == ["hour"]
    usual, every = chosen("", "default"), chosen("", "long")
    assert not any(p.long for p in usual)
    assert every == list(PARTS.values())


@pytest.mark.parametrize("name", PARTS)
def test_every_part_measures_and_has_a_page(name: str) -> None:
    module = import_module(name)
    assert callable(module.measure)
    assert callable(module.page)
