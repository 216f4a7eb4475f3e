"""All kinds of cells say the same in the launcher's kernel as where IPython goes its own way."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from launcher_test import Kernel, Run

# Each is run after those before it.
CELLS = [
    *("1+1", "1;", "_", "__ + 1", "x = 3", "x", "x;  # no", "'a;b'", "\n\n1+1\n\n", "  1+1\n  2+2", "\t1"),
    *("", "   ", "\n", "# only a comment", "pass\n \n1", "'''\n   \na'''", "def f():\n  \n  return 1\nf()"),
    *(
        ">>> 1+1",
        ">>> def f():\n...     return 2\n>>> f()",
        "In [1]: 5",
        "In [3]: x\n   ...: x",
        "...",
        "(1,\n... )",
    ),
    *(
        "'''\n>>> 1\n1\n'''",
        "'''a\n... b'''",
        "x = [...]\nx",
        "{'...': 1}",
        "a = 1\r\na",
        "a = 2\x0ca",
        "'\x1c'",
    ),
    *(
        "%env HOME",
        "%%capture c\nprint(1)",
        "c.stdout",
        "%precision 2",
        "3.14159",
        "%precision",
        "3.14159",
    ),
    *("who", "%who", "ls = 1\nls", "ls", "del ls", "pwd = 2", "pwd", "whos?", "len?", "?nothing_of_the_kind"),
    *(
        "!echo a",
        "a = !echo b\na",
        "!!echo c",
        "%no_such_magic",
        "%%no_such_magic\n1",
        "/len 'abc'",
        ",print a b",
    ),
    *(
        "%autocall 1",
        "len 'abc'",
        "%autocall 0",
        "len 'abc'",
        "%automagic off",
        "pwd",
        "whos",
        "%automagic on",
    ),
    *("%macro m 1", "m", "%alias say echo", "say hello", "%alias_magic t env", "%t HOME"),
    *("await 1", "import asyncio\nawait asyncio.sleep(0)\n1", "async with 1: pass", "[i async for i in 1]"),
    *("return", "yield 1", "x = (", "1 +", "for", "'abc", "f(:", "nonlocal q", "a\0b", "x = 1\n  y = 2"),
    *("x is 1", "'\\d'", "assert (1, 2)", "[1]('a')", "x is 1\n%env HOME", "'\\d' (", "1if x else 2"),
    *(
        "import warnings\nwarnings.warn('w')",
        "warnings.simplefilter('error')",
        "x is 1",
        "warnings.resetwarnings()",
        "warnings.simplefilter('once')",
        "x is 1",
        "x is 1",
        "warnings.resetwarnings()",
    ),
    *(
        "class P:\n  @property\n  def __class__(self): raise RuntimeError('no')\np = P()",
        "p",
        "p = 1",
    ),
    *(
        "True",
        "None",
        "3.0",
        "10**400",
        "10**5000",
        "2j",
        "b'a'",
        "(1, 2)",
        "[1, [2]]",
        "{'a': {1}}",
        "frozenset()",
    ),
    *(
        "list(range(2000))",
        "'a' * 300",
        "'é\\n'",
        "range(3)",
        "...",
        "int",
        "print",
        "object() is None",
        "len",
    ),
    *(
        "class I(int): pass\nI(3)",
        "class R:\n  def __repr__(self): return 'a\\nb'\nR()",
        "[R()]",
        "1/0",
        "{}[1]",
    ),
    *(
        "class H:\n  def _repr_html_(self): return '<b>'\nH()",
        "display(1, 'a', H(), None)",
        "display(1, raw=True)",
    ),
    *(
        "display({'text/plain': 'p'}, raw=True)",
        "display(3, include=['text/html'])",
        "display(3, display_id='d')",
    ),
    *(
        "from IPython.display import update_display\nupdate_display(4, display_id='d')",
        "print(1); display(2); 3",
    ),
    *("def f():\n    raise ValueError('é')\nf()", "raise KeyboardInterrupt", "raise SystemExit(1)", "quit?"),
    *(
        "In[-1], len(Out) > 0",
        "_i, _ii",
        "%history -l 2",
        "%rerun",
        "%recall",
        "_oh is Out",
        "get_ipython().run_cell('7').result",
    ),
    *("%config InteractiveShell.ast_node_interactivity = 'all'", "1\n2", "%reset_selective -f ^x$", "x"),
    *("%config InteractiveShell.ast_node_interactivity = 'last_expr_or_assign'", "y = 8", "y = 9;"),
    *(
        "import sys; sys.stdout.write('no line end')",
        "print('a', end='')\nprint('b', file=sys.stderr)",
        "input",
    ),
    *("get_ipython().set_next_input('more')", "get_ipython().transform_cell('%x')", "%page x", "%pinfo x"),
]

SETUP = "ip = get_ipython()\nby, html = ip.display_formatter, ip.display_formatter.formatters['text/html']"

# What users add to IPython, one after the other; after each, TRIED is run.
ADDED = [
    SETUP,
    "html.for_type(int, '<i>{}'.format)",
    "html.for_type_by_name('builtins', 'str', '<s>{}'.format)",
    "html.for_type(object, repr)",
    "html.type_printers = {}",
    "by.formatters['text/plain'].for_type(int, lambda n, p, cycle: p.text('!'))",
    "by.mimebundle_formatter.for_type(float, lambda f: {'a/b': f})",
    "by.ipython_display_formatter.for_type(tuple, lambda t: print('shown', t))",
    "by.active_types = ['text/plain']",
    "ip.displayhook.register_hook(lambda m: (m['metadata'].update(k=1), m)[1])",
    "for e in ('pre_execute', 'pre_run_cell', 'post_run_cell', 'post_execute'):\n"
    "    ip.events.register(e, lambda *a, e=e: print(e))",
    "import ast\nclass T(ast.NodeTransformer):\n"
    "    def visit_Constant(self, n): return ast.Constant(n.value * 2) if n.value == 5 else n\n"
    "ip.ast_transformers.append(T())",
    "ip.set_custom_exc((ZeroDivisionError,), lambda s, t, v, tb, tb_offset=None: print('custom'))",
    "ip.input_transformers_cleanup.append(lambda lines: [line.replace('one', '1') for line in lines])",
    "said = []\nip.input_transformers_post.append(lambda lines: (said.append(1), lines)[1])",
    "line_transforms = ip.input_transformer_manager.line_transforms\n"
    "line_transforms.append(lambda lines: ['1;2\\n'] if lines == ['two\\n'] else lines)",
    "ip.transform_cell = lambda cell: '42'",
]
TRIED = [
    "one",
    "two",
    "1",
    "'a'",
    "1.5",
    "(1, 2)",
    "[1, 'a']",
    "5",
    "True",
    "1/0",
    "len(said)",
    "print(3)\n4;",
]


def run(kernel: Kernel, code: str) -> Run:
    content = {
        "code": code,
        "silent": False,
        "store_history": True,
        "user_expressions": {},
        "stop_on_error": False,
    }
    return kernel.finish(kernel.send("execute_request", content))


def said(run: Run) -> list[Any]:
    """Return all that a run has told, but for what differs between two kernels."""
    told = [(m["msg_type"], m["content"], m["metadata"]) for m in run.published]
    streams: dict[str, str] = {}
    rest = []
    for kind, content, metadata in told:
        if kind == "stream":
            streams[content["name"]] = streams.get(content["name"], "") + content["text"]
        else:
            rest.append((kind, content, metadata))
    reply = {name: value for name, value in run.reply.items() if name != "engine_info"}
    return [
        re.sub(r"0x[0-9a-f]+|ipykernel_\d+|\d+(\.\d+)? (ns|[µμ]s|ms|s)\b", "…", repr(x))
        for x in (sorted(streams.items()), *rest, reply)
    ]


@pytest.fixture
def kernels() -> Iterator[tuple[Kernel, Kernel]]:
    ours, stock = Kernel(), Kernel(["--App.stock=True"])
    yield ours, stock
    ours.close()
    stock.close()


def compare(kernels: tuple[Kernel, Kernel], cells: list[str]) -> None:
    for cell in cells:
        ours, stock = (said(run(kernel, cell)) for kernel in kernels)
        assert ours == stock, cell


def test_cells_say_what_they_do_in_a_stock_kernel(kernels: tuple[Kernel, Kernel]) -> None:
    compare(kernels, CELLS)


def test_what_users_add_to_ipython_counts(kernels: tuple[Kernel, Kernel]) -> None:
    for added in ADDED:
        compare(kernels, [added, *TRIED])


def test_cells_see_the_shell_as_ipython_has_it(kernels: tuple[Kernel, Kernel]) -> None:
    compare(kernels, ["vars(get_ipython()).keys() & {'transform_cell', 'should_run_async'}", "await 1\n_"])
