"""How long run_code("1+1") takes by the newest client and by the native API: in turn, on one server."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable

import httpx
from e2b_code_interpreter import Sandbox

RUNS = 500


def milliseconds(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1000


def main() -> None:
    server, key = os.environ["E2B_API_URL"], {"X-API-Key": os.environ["E2B_API_KEY"]}
    with Sandbox.create() as box, httpx.Client(base_url=server, headers=key) as http:
        url = f"/v1/sandboxes/{box.sandbox_id}/code"

        def by_client() -> None:
            assert box.run_code("1+1").text == "2"

        def natively() -> None:
            with http.stream("POST", url, json={"code": "1+1"}) as answer:
                lines = [json.loads(line) for line in answer.iter_lines()]
            assert [line["data"]["text/plain"] for line in lines if line["type"] == "result"] == ["2"]

        took: dict[str, list[float]] = {"e2b client": [], "native HTTP": []}
        for turn in range(RUNS + 20):
            for name, run in (("e2b client", by_client), ("native HTTP", natively)):
                ms = milliseconds(run)
                if turn >= 20:  # those before warm up
                    took[name].append(ms)
        for name, all_ms in took.items():
            cuts = statistics.quantiles(all_ms, n=100)
            print(f'{name}: run_code("1+1") p50 {cuts[49]:.2f} ms, p95 {cuts[94]:.2f} ms, of {RUNS} runs')


if __name__ == "__main__":
    main()
