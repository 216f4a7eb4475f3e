"""Run notebooks with nbclient, papermill and k2sandbox, and print where their outputs differ.

    make compare, or: python notebook/compare/compare.py --k2sandbox bin/k2sandbox [--only NAME ...]

needs an environment of nbclient, papermill, ipykernel, ipywidgets, matplotlib and pandas, which
k2sandbox uses too. What a notebook wants is in its metadata under "compare": "parameters" (YAML),
"allow_errors", "timeout" (seconds), "interrupt_on_timeout". papermill runs those without the last
three, which it does not have. Times, ids, addresses and paths of temporary files are left out of the
comparison; so are the types of output that k2sandbox alone adds, and how a stream was cut into pieces.
"""

from __future__ import annotations

import argparse
import copy
import difflib
import json
import logging
import re
import subprocess
import sys
import tempfile
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

Notebook = dict[str, Any]

NOTEBOOKS = Path(__file__).parent.parent / "testdata" / "compare"
BANNER = "papermill-error-cell-tag"

# Where we differ on purpose: doc/notebooks.md tells how.
KNOWN = {
    "nbclient": {"interrupt_on_timeout", "kernel_death", "magics", "timeout", "tracebacks"},
    "papermill": {"kernel_death", "magics", "skipped", "system_exit", "system_exit_plain", "tracebacks"},
}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--k2sandbox", required=True, type=Path)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--reference", choices=["nbclient", "papermill"], action="append")
    args = parser.parse_args()
    logging.disable(logging.ERROR)
    surprises = 0
    files = [f for f in sorted(NOTEBOOKS.glob("*.ipynb")) if not args.only or f.stem in args.only]
    for reference in args.reference or ["nbclient", "papermill"]:
        for file in files:
            found = compare(file, reference, args.k2sandbox)
            if found is None:
                continue
            known = file.stem in KNOWN[reference]
            surprises += bool(found) != known
            verdict = ("differs, as known" if known else "DIFFERS") if found else "equal"
            print(f"{reference:10} {file.stem:24} {verdict}", flush=True)
            if not known:
                print("".join(f"    {line}\n" for line in found), end="")
    print(f"{surprises} are not as expected")
    return min(surprises, 1)


def compare(file: Path, reference: str, k2sandbox: Path) -> list[str] | None:
    """Return the lines in which the outputs differ, or None where the reference cannot run the notebook."""
    raw = json.loads(file.read_text("utf-8"))
    want = raw["metadata"].get("compare", {})
    if reference == "papermill" and set(want) - {"parameters"}:
        return None
    if reference == "nbclient" and "parameters" in want:
        return None
    with tempfile.TemporaryDirectory() as temp:
        theirs = {"nbclient": with_nbclient, "papermill": with_papermill}[reference](file, want, Path(temp))
        ours = with_k2sandbox(file, want, Path(temp), k2sandbox, reference == "papermill")
    a, b = lines(theirs), lines(ours)
    return [cut(d) for d in difflib.unified_diff(a, b, reference, "k2sandbox", n=1, lineterm="")]


def with_nbclient(file: Path, want: dict[str, Any], temp: Path) -> Notebook:
    nbclient, nbformat = import_module("nbclient"), import_module("nbformat")
    nb = nbformat.read(file, as_version=4)
    client = nbclient.NotebookClient(
        nb,
        resources={"metadata": {"path": str(temp)}},
        **{"timeout": 60, **{name: value for name, value in want.items() if name != "parameters"}},
    )
    errors = nbclient.exceptions
    with suppress(errors.CellExecutionError, errors.DeadKernelError, errors.CellTimeoutError):
        client.execute()
    return strip(nbformat.writes(nb))


def with_papermill(file: Path, want: dict[str, Any], temp: Path) -> Notebook:
    papermill, yaml = import_module("papermill"), import_module("yaml")
    loader = import_module("papermill.iorw").NoDatesSafeLoader
    parameters = yaml.load(want.get("parameters", ""), Loader=loader) or {}
    out = temp / "papermill.ipynb"
    dead = import_module("nbclient").exceptions.DeadKernelError
    with suppress(papermill.PapermillExecutionError, dead):
        papermill.execute_notebook(
            str(file), str(out), parameters, progress_bar=False, cwd=str(temp), execution_timeout=60
        )
    return strip(out.read_text("utf-8"))


def with_k2sandbox(
    file: Path, want: dict[str, Any], temp: Path, k2sandbox: Path, papermill: bool
) -> Notebook:
    out = temp / "k2sandbox.ipynb"
    command: list[str | Path] = [k2sandbox.resolve(), "notebook", "run", file.resolve(), out]
    command += ["--python", sys.executable, f"--papermill-metadata={str(papermill).lower()}", "--cwd", temp]
    for name, value in want.items():
        flag = {"parameters": "-y"}.get(name, "--" + name.replace("_", "-"))
        command += [f"{flag}={value}"] if not isinstance(value, bool) else [flag] * value
    subprocess.run(command, stderr=subprocess.PIPE, check=False)
    text = out.read_text("utf-8")
    import_module("nbformat").validate(json.loads(text))
    return strip(text)


def strip(text: str) -> Notebook:
    """Return a notebook without what may differ from run to run and tool to tool."""
    text = re.sub(r"0x[0-9a-f]{6,}", "0xADDRESS", text)
    text = re.sub(r"/tmp/ipykernel_\d+/\d+\.py", "/tmp/CELL.py", text)
    text = re.sub(r'"cell_id": "[^"]*"', "", text)
    text = re.sub(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])", "ID", text)
    nb: Notebook = json.loads(text, object_pairs_hook=widgets)
    nb["metadata"].pop("papermill", None)
    nb["metadata"].pop("compare", None)
    nb["nbformat_minor"] = max(nb["nbformat_minor"], 5)  # papermill raises it
    nb["cells"] = [c for c in nb["cells"] if BANNER not in c["metadata"].get("tags", [])]
    for cell in nb["cells"]:
        cell.pop("id", None)
        for key in ("source", "text"):
            if isinstance(cell.get(key), str):
                cell[key] = cell[key].splitlines(True)
        record = cell["metadata"].pop("papermill", {})
        cell["metadata"]["status"] = [record.get("status"), record.get("exception")]
        cell["metadata"].pop("execution", None)
        if cell["metadata"].get("tags") == []:  # papermill's
            del cell["metadata"]["tags"]
        if "outputs" in cell:
            cell["outputs"] = merged(cell["outputs"])
    return nb


def widgets(pairs: list[tuple[str, Any]]) -> Any:
    """Return a JSON object; the states of widgets, which differ in nothing but an id, as a sorted list."""
    if pairs and all(key == "ID" for key, _ in pairs):
        return sorted((value for _, value in pairs), key=lambda v: json.dumps(v, sort_keys=True))
    return dict(pairs)


def merged(outputs: list[Notebook]) -> list[Notebook]:
    """Join the pieces of streams between other outputs, standard output first."""
    result: list[Notebook] = []
    streams: dict[str, str] = {}

    def flush() -> None:
        for name in sorted(streams, reverse=True):
            text = streams[name].splitlines(True)
            result.append({"output_type": "stream", "name": name, "text": text})
        streams.clear()

    for output in copy.deepcopy(outputs):
        if output["output_type"] == "stream":
            streams[output["name"]] = streams.get(output["name"], "") + "".join(output["text"])
            continue
        flush()
        for typ in list(output.get("data", {})):
            if typ.startswith("application/vnd.k2."):
                del output["data"][typ]
        result.append(output)
    flush()
    return result


def lines(nb: Notebook) -> list[str]:
    return json.dumps(nb, indent=1, sort_keys=True, ensure_ascii=False).splitlines()


def cut(line: str) -> str:
    return line if len(line) < 300 else f"{line[:200]}… ({len(line)} characters)"


if __name__ == "__main__":
    sys.exit(main())
