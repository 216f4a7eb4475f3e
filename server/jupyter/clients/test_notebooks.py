"""nbclient and papermill, as they are, whose kernels a gateway has: by jupyter_server's GatewayKernelManager.

It opens the channels without a token (jupyter_server 2.21), so that this gateway is one without keys. After
some quiet seconds nbclient asks it whether the kernel lives, which fails: timeouts of cells are of no use.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from jupyter_server.gateway.gateway_client import GatewayClient
from jupyter_server.gateway.managers import GatewayKernelManager, GatewayMappingKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from papermill.exceptions import PapermillExecutionError

from .client import Server

PLOT = "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2])\nplt.show()"


@pytest.fixture(scope="module", autouse=True)
def _gateway() -> Iterator[Server]:
    url = os.environ["JUPYTER_OPEN_URL"]
    client = GatewayClient.instance()
    client.url, client.ws_url = url, url.replace("http", "ws", 1)
    server = Server(url, "")
    yield server
    assert server.call("GET", "/api/kernels") == [], "a kernel was left behind"
    server.close()


def notebook(*cells: str) -> Any:
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])


def execute(*cells: str, **options: Any) -> Any:
    made = notebook(*cells)
    NotebookClient(
        made, kernel_manager_class=GatewayKernelManager, kernel_name="python3", **options
    ).execute()
    return made


def test_nbclient() -> None:
    made = execute("print('hello')", "x = 20 + 1\nx * 2", PLOT, "import sys; print('no', file=sys.stderr)")
    hello, answer, plot, err = (cell.outputs for cell in made.cells)
    assert (hello[0].name, hello[0].text) == ("stdout", "hello\n")
    assert (answer[0].output_type, answer[0].data["text/plain"], answer[0].execution_count) == (
        "execute_result",
        "42",
        2,
    )
    assert "image/png" in plot[0].data
    assert err[0].name == "stderr"


def test_nbclient_error() -> None:
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        execute("1 / 0", "print('not reached')")
    made = execute("1 / 0", "print('reached')", allow_errors=True)
    assert made.cells[0].outputs[0].ename == "ZeroDivisionError"
    assert made.cells[1].outputs[0].text == "reached\n"


def test_nbclient_much_output() -> None:
    made = execute("for i in range(20000): print('line', i)")
    assert "".join(output.text for output in made.cells[0].outputs) == "".join(
        f"line {i}\n" for i in range(20000)
    )


def test_nbclient_widgets() -> None:
    """Widgets without buffers keep their state in the notebook."""
    made = execute("import ipywidgets\nslider = ipywidgets.IntSlider(value=7)\nslider", "slider.value = 8")
    assert "application/vnd.jupyter.widget-view+json" in made.cells[0].outputs[0].data
    (widgets,) = made.metadata.widgets.values()
    assert 8 in [model["state"].get("value") for model in widgets["state"].values()]


def test_papermill(tmp_path: Path) -> None:
    made = notebook("n = 1", "print('n is', n)")
    made.cells[0].metadata.tags = ["parameters"]
    made.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(made, tmp_path / "in.ipynb")
    options = {"kernel_manager_class": GatewayKernelManager, "progress_bar": False}
    papermill.execute_notebook(tmp_path / "in.ipynb", tmp_path / "out.ipynb", {"n": 42}, **options)
    out = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert out.cells[-1].outputs[0].text == "n is 42\n"
    assert not out.metadata.papermill.exception

    made.cells.append(nbformat.v4.new_code_cell("raise ValueError('no good')"))
    nbformat.write(made, tmp_path / "in.ipynb")
    with pytest.raises(PapermillExecutionError, match="no good"):
        papermill.execute_notebook(tmp_path / "in.ipynb", tmp_path / "out.ipynb", **options)


def test_gateway_manager() -> None:
    """The manager that jupyter_server has for kernels of a gateway: every call of it."""

    async def body() -> None:
        manager = GatewayMappingKernelManager()
        kernel = await manager.start_kernel(kernel_name="python3", env={"KERNEL_GREETING": "hello"})
        one = manager.get_kernel(kernel)
        assert await one.is_alive()
        assert one.last_activity.tzinfo
        assert [model["id"] for model in await manager.list_kernels()] == [kernel]
        client = one.client()
        await client.start_channels()
        await client.wait_for_ready(timeout=60)
        run = client.execute("import os; print(os.environ.get('KERNEL_GREETING'))")
        reply = await client.get_shell_msg(timeout=60)
        assert (reply["parent_header"]["msg_id"], reply["content"]["status"]) == (run, "ok")
        said = ""
        while not said:
            message = await client.get_iopub_msg(timeout=60)
            said += message["content"].get("text", "")
        assert said == "hello\n"
        await manager.interrupt_kernel(kernel)
        await manager.restart_kernel(kernel)
        client.stop_channels()
        await manager.shutdown_kernel(kernel)
        assert kernel not in manager

    asyncio.run(body())
