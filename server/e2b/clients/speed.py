"""How long run_code("1+1") takes by the newest client, the native SDK and plain HTTP, in turn."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable

import httpx
from e2b_code_interpreter import Sandbox
from k2sandbox import Sandbox as Native

RUNS = 500
WARM_UP = 20


def milliseconds(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1000


def main() -> None:
    server, key = os.environ["E2B_API_URL"], os.environ["E2B_API_KEY"]
    http = httpx.Client(base_url=server, headers={"X-API-Key": key})
    with Sandbox.create() as box, Native(api_url=server, api_key=key) as native, http:
        url = f"/v1/sandboxes/{box.sandbox_id}/code"

        def by_client() -> None:
            assert box.run_code("1+1").text == "2"

        def by_sdk() -> None:
            assert native.run_code("1+1").text == "2"

        def by_http() -> None:
            with http.stream("POST", url, json={"code": "1+1"}) as answer:
                lines = [json.loads(line) for line in answer.iter_lines()]
            assert [line["data"]["text/plain"] for line in lines if line["type"] == "result"] == ["2"]

        ways = {"client of E2B": by_client, "native SDK": by_sdk, "native HTTP": by_http}
        took: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(RUNS + WARM_UP):
            for way, run in ways.items():
                took[way].append(milliseconds(run))
        for way, all_ms in took.items():
            cuts = statistics.quantiles(all_ms[WARM_UP:], n=100)
            print(f'run_code("1+1") by {way}: p50 {cuts[49]:.2f} ms, p95 {cuts[94]:.2f} ms, of {RUNS}')


if __name__ == "__main__":
    main()
