"""The WebSocket of a kernel: what a client sends and hears, in each of the frames that there are."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from .client import BOTH, Channels, Message, Server

Connect = Callable[..., Channels]
TOKEN = [f"Authorization: token {os.environ['JUPYTER_TOKEN']}"]
Start = Callable[..., str]


def idle(said: Message, run: str) -> bool:
    """Whether said tells that the run is over."""
    return bool(
        said["parent_header"].get("msg_id") == run and said["content"].get("execution_state") == "idle"
    )


def replies(said: Message, request: str) -> bool:
    """Whether said is the reply to the request."""
    return said["parent_header"].get("msg_id") == request and said["channel"] in ("shell", "control")


@pytest.mark.parametrize("protocol", BOTH)
def test_run(kernel: str, connect: Connect, protocol: str | None) -> None:
    told = connect(kernel, protocol=protocol).run(
        "import sys; print('out'); print('err', file=sys.stderr); 1+1"
    )
    assert (told.reply["status"], told.value) == ("ok", "2")
    assert {content["name"]: content["text"] for content in told.all("stream")} == {
        "stdout": "out\n",
        "stderr": "err\n",
    }
    kinds = [message["header"]["msg_type"] for message in told.said]
    assert (kinds[:2], kinds[-1]) == (["status", "execute_input"], "status")
    assert {message["channel"] for message in told.said} == {"iopub"}
    assert all(message["parent_header"]["session"] for message in told.said)


def test_messages_name_their_kind(kernel: str, connect: Connect) -> None:
    """Older clients read msg_id and msg_type beside the header, and a parent of each message."""
    channels = connect(kernel)
    run = channels.execute("print(1)")
    said = channels.until(lambda said: idle(said, run))
    for message in said:
        assert (message["msg_id"], message["msg_type"]) == (
            message["header"]["msg_id"],
            message["header"]["msg_type"],
        )
        assert message["parent_header"]["msg_id"], message


@pytest.mark.parametrize("protocol", BOTH)
def test_requests(kernel: str, connect: Connect, protocol: str | None) -> None:
    channels = connect(kernel, protocol=protocol)

    def ask(kind: str, content: dict[str, Any], channel: str = "shell") -> Any:
        asked = channels.send(kind, content, channel)
        return channels.until(lambda said: replies(said, asked))[-1]["content"]

    assert ask("kernel_info_request", {})["implementation"] == "ipython"
    assert ask("kernel_info_request", {}, "control")["language_info"]["name"] == "python"
    assert "import" in ask("complete_request", {"code": "impo", "cursor_pos": 4})["matches"]
    assert ask("inspect_request", {"code": "print", "cursor_pos": 5, "detail_level": 0})["found"]
    assert ask("is_complete_request", {"code": "for x in y:"})["status"] == "incomplete"
    assert ask("comm_info_request", {"target_name": "x"})["comms"] == {}
    channels.run("remembered = 1")
    past = {"output": False, "raw": True, "hist_access_type": "tail", "n": 1}
    assert ask("history_request", past)["history"][0][2] == "remembered = 1"
    debug = {"seq": 1, "type": "request", "command": "debugInfo"}
    assert ask("debug_request", debug, "control")["command"] == "debugInfo"
    made = ask("create_subshell_request", {}, "control")["subshell_id"]
    assert made in ask("list_subshell_request", {}, "control")["subshell_id"]
    assert ask("delete_subshell_request", {"subshell_id": made}, "control")["status"] == "ok"


@pytest.mark.parametrize("protocol", BOTH)
def test_errors(kernel: str, connect: Connect, protocol: str | None) -> None:
    channels = connect(kernel, protocol=protocol)
    told = channels.run("1 / 0")
    assert (told.reply["status"], told.reply["ename"]) == ("error", "ZeroDivisionError")
    assert told.all("error")[0]["evalue"] == "division by zero"
    first = channels.execute("input()\n1 / 0", allow_stdin=True)
    second = channels.execute("2")  # which waits when the first fails
    asked = channels.until(lambda said: said["header"]["msg_type"] == "input_request")[-1]
    channels.send("input_reply", {"value": ""}, "stdin", parent_header=asked["header"])
    said = channels.until(lambda said: replies(said, second))
    aborted = [each["content"]["status"] for each in said if each["header"]["msg_type"] == "execute_reply"]
    assert aborted == ["error", "aborted"], first


@pytest.mark.parametrize("protocol", BOTH)
def test_input(kernel: str, connect: Connect, protocol: str | None) -> None:
    channels = connect(kernel, protocol=protocol)
    other = connect(kernel)
    prompts: list[str] = []

    def answer(message: Message) -> None:
        if message["header"]["msg_type"] == "input_request":
            assert message["channel"] == "stdin"
            prompts.append(message["content"]["prompt"])
            channels.send("input_reply", {"value": "Ada"}, "stdin", parent_header=message["header"])

    told = channels.finish(channels.execute("name = input('who? '); name", allow_stdin=True), answer)
    assert (prompts, told.value) == (["who? "], "'Ada'")
    run = other.execute("name")
    assert {
        message["channel"] for message in other.until(lambda said: said["parent_header"].get("msg_id") == run)
    } <= {
        "iopub",
        "shell",
    }, "another client was asked"


COMM = """
from comm import create_comm, get_comm_manager
def opened(comm, message):
    buffers = [bytes(buffer) for buffer in message['buffers']]
    comm.send({'sizes': [len(buffer) for buffer in buffers]}, buffers=[buffer[::-1] for buffer in buffers])
get_comm_manager().register_target('echo', opened)
"""


@pytest.mark.parametrize("protocol", BOTH)
@pytest.mark.parametrize("buffers", [[b""], [b"abc"], [b"\x00\xff" * 50000, b"", b"end"]])
def test_buffers(kernel: str, connect: Connect, protocol: str | None, buffers: list[bytes]) -> None:
    channels = connect(kernel, protocol=protocol)
    assert channels.run(COMM).reply["status"] == "ok"
    comm = {"comm_id": "c1", "target_name": "echo", "data": {}}
    opened = channels.send("comm_open", comm, buffers=buffers)
    said = channels.until(
        lambda said: said["header"]["msg_type"] == "comm_msg" and said["parent_header"]["msg_id"] == opened
    )
    assert said[-1]["content"]["data"]["sizes"] == [len(buffer) for buffer in buffers]
    assert said[-1]["buffers"] == [buffer[::-1] for buffer in buffers]


def test_proxy_safe(kernel: str, connect: Connect) -> None:
    """Jupyter Server, as a gateway's client, dies of a binary frame: it gets none, and is told so, once."""
    channels = connect(kernel, header=[*TOKEN, "User-Agent: Tornado/6.6.1"])
    code = (
        "from comm import create_comm\nfor _ in range(2): create_comm('none', buffers=[b'abc'])\nprint('end')"
    )
    told = channels.run(code)
    assert told.reply["status"] == "ok"
    notice, end = (content["text"] for content in told.all("stream"))
    assert "left out" in notice
    assert end == "end\n"


@pytest.mark.parametrize("protocol", BOTH)
def test_any_text(kernel: str, connect: Connect, protocol: str | None) -> None:
    text = "é😀\u0085\u2028</script>\x00\x1b[1m'\"\\" + "日本語" * 5000
    assert connect(kernel, protocol=protocol).run(f"print({text!r}, end='')").text == text


def test_all_hear_iopub(kernel: str, connect: Connect) -> None:
    """All clients hear what a run says; its reply is for the one who asked."""
    one, two, three = connect(kernel), connect(kernel, protocol=BOTH[1]), connect(kernel)
    run = one.execute("print('for all')")
    assert one.finish(run).text == "for all\n"
    for other in (two, three):
        said = other.until(lambda said: idle(said, run))
        assert [said["content"]["text"] for said in said if said["header"]["msg_type"] == "stream"] == [
            "for all\n"
        ]
        assert "execute_reply" not in {said["header"]["msg_type"] for said in said}


def test_same_session_replaces(kernel: str, connect: Connect) -> None:
    first = connect(kernel, session="one-and-the-same")
    first.run("1")
    second = connect(kernel, session="one-and-the-same")
    assert second.run("2").value == "2"
    with pytest.raises((ConnectionError, OSError, Exception), match=r"[Cc]losed|lost"):
        first.until(lambda said: False)


def test_missed_output_is_replayed(start: Start, connect: Connect) -> None:
    kernel = start()
    first = connect(kernel, session="comes-back")
    run = first.execute("import time\nprint('early', flush=True)\ntime.sleep(2)\nprint('late')")
    first.until(lambda said: said["header"]["msg_type"] == "stream")
    first.close()
    second = connect(kernel, session="comes-back")
    told = second.finish(run)
    assert "late" in told.text
    assert told.reply["status"] == "ok"


def test_interrupt(server: Server, kernel: str, connect: Connect) -> None:
    channels = connect(kernel)
    run = channels.execute("import time\nprint('up', flush=True)\ntime.sleep(300)")
    channels.until(lambda said: said["header"]["msg_type"] == "stream")
    assert server.call("GET", f"/api/kernels/{kernel}")["execution_state"] == "busy"
    server.call("POST", f"/api/kernels/{kernel}/interrupt", {}, 204)
    assert channels.finish(run).reply["ename"] == "KeyboardInterrupt"
    assert channels.run("'free'").value == "'free'"


def test_restart(server: Server, start: Start, connect: Connect) -> None:
    kernel = start()
    channels = connect(kernel)
    channels.run("x = 1")
    assert server.call("POST", f"/api/kernels/{kernel}/restart", {})["id"] == kernel
    assert connect(kernel).run("x").reply["ename"] == "NameError"


def test_death_is_told(start: Start, connect: Connect) -> None:
    kernel = start()
    channels = connect(kernel)
    channels.execute("import os; os._exit(3)")
    channels.until(lambda said: said["content"].get("execution_state") in ("restarting", "autorestarting"))
    assert connect(kernel).run("'alive'").value == "'alive'"


def test_unknown_message_types(kernel: str, connect: Connect) -> None:
    channels = connect(kernel)
    channels.send("no_such_request", {"x": 1})
    channels.send("no_such_request", {"x": 1}, "control")
    assert channels.run("'here'").value == "'here'"


def test_missing_parts(kernel: str, connect: Connect) -> None:
    """A legacy message without a channel is for the shell; what may be absent may."""
    import json

    channels = connect(kernel)
    message = channels.request("kernel_info_request", {})
    del message["channel"]
    message["parent_header"] = None
    message["buffers"] = {}
    channels.raw(json.dumps(message))
    channels.until(lambda said: said["header"]["msg_type"] == "kernel_info_reply")
