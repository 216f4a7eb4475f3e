"""Cells with rich results, and packages, in both worlds."""

from __future__ import annotations

from typing import Any

import pytest

from k2sandbox import InstallError, InstallTimeout, InvalidRequest, RunTimeout

CHART = "import matplotlib.pyplot as plt; print('drawing'); plt.plot([1, 2, 3]); plt.show()"


def test_a_plot(box: Any) -> None:
    lines: list[str] = []
    results: list[dict[str, Any]] = []
    execution = box.notebook.execute(
        CHART, lambda data: lines.append(data["line"]), on_results=results.append, metadata={"id": "a"}
    )
    assert (lines, execution.metadata, execution.error) == (["drawing"], {"id": "a"}, None)
    (result,) = (r for r in execution.results if r.mime_type == "image/png")
    assert result.image_data.startswith(b"\x89PNG")
    assert result.chart["kind"] == "line"
    assert [r["mime_type"] for r in results] == [r.mime_type for r in execution.results]


def test_a_table(box: Any) -> None:
    execution = box.notebook.execute("import pandas as pd\npd.DataFrame({'n': [1, 2]})")
    (result,) = execution.results
    assert (result.mime_type, result.is_main) == ("text/html", True)
    assert "<table" in result.html
    assert result.table["columns"][-1]["name"] == "n"


def test_cells_share_variables_until_a_reset(box: Any) -> None:
    box.notebook.execute("x = 41")
    assert box.notebook.execute("x + 1").text == "42"
    assert box.notebook.reset() is None
    assert box.notebook.execute("x").error.name == "NameError"


def test_a_timeout_keeps_the_metadata(box: Any) -> None:
    with pytest.raises(RunTimeout) as caught:
        box.notebook.execute("print('begun', flush=True)\nimport time; time.sleep(100)", timeout=1, metadata={"id": 1})
    assert caught.value.execution is not None
    assert (caught.value.execution.stdout, caught.value.execution.metadata) == ("begun\n", {"id": 1})
    with pytest.raises(InvalidRequest, match="metadata"):
        box.notebook.execute("1", metadata=["a"])


def test_packages_are_installed(packages: Any) -> None:
    before = {p["name"]: p["version"] for p in packages.notebook.get_installed_packages()}
    assert "ipykernel" in before
    assert "k2_demo" not in before
    lines: list[str] = []
    assert packages.notebook.install_package("k2_demo", on_output=lambda data: lines.append(data["line"])) is None
    assert any("k2" in line and "demo" in line for line in lines)
    assert not any(line.endswith("\n") for line in lines)
    assert packages.run_code("import k2_demo; k2_demo.__version__").text == "'2.0'"
    packages.notebook.install_package("k2_demo", version="1.0")
    packages.notebook.reset()
    assert packages.run_code("import k2_demo; k2_demo.__version__").text == "'1.0'"
    packages.notebook.install_package("k2_demo", version=">=1.5,<3")
    assert {"name": "k2_demo", "version": "2.0"} in packages.notebook.get_installed_packages()
    packages.notebook.install_package("k2_demo", upgrade=True)


def test_what_cannot_be_installed_says_why(packages: Any) -> None:
    with pytest.raises(InstallError, match=r"(?s)cannot install numpy: .*numpy.*1\.20\.1") as caught:
        packages.notebook.install_package("numpy", version="1.20.1")
    assert "1.20.1" in caught.value.output
    assert (caught.value.sandbox_id, caught.value.code) == (packages.sandbox_id, "install_failed")
    assert packages.run_code("import numpy; numpy.arange(2).sum()").error is None


@pytest.mark.parametrize(
    ("package", "version", "message"),
    [
        ("", None, "package: expected the name"),
        (None, None, "package: expected the name"),
        (7, None, "package: expected the name"),
        ("k2_demo", "", "version: expected a version"),
        ("k2_demo", 1.0, "version: expected a version"),
        ("--index-url=x", None, "packages"),
        ("../evil", None, "packages"),
        ("k2_demo", "1.0; rm -rf /", "packages"),
    ],
)
def test_what_is_no_package_is_refused(packages: Any, package: Any, version: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        packages.notebook.install_package(package, version)


def test_an_installation_takes_no_longer_than_its_timeout(packages: Any) -> None:
    with pytest.raises(InstallTimeout) as caught:
        packages.notebook.install_package("k2_demo", upgrade=True, timeout=0.001)
    assert isinstance(caught.value, TimeoutError)
    with pytest.raises(InvalidRequest, match="timeout"):
        packages.notebook.install_package("k2_demo", timeout="soon")


def test_a_callback_that_raises_ends_an_installation(packages: Any) -> None:
    def fail(data: dict[str, str]) -> None:
        raise RuntimeError("my own mistake")

    with pytest.raises(RuntimeError, match="my own mistake"):
        packages.notebook.install_package("k2_demo", upgrade=True, on_output=fail)
    with pytest.raises(InvalidRequest, match="on_output"):
        packages.notebook.install_package("k2_demo", on_output="print")
    packages.notebook.install_package("k2_demo", upgrade=True)
