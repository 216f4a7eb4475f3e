"""A job that goes on without its client: start it, leave, and come back for all that it said.

python long_job.py
"""

from __future__ import annotations

from k2sandbox import Sandbox

JOB = """
import time
for step in range(1, 11):
    time.sleep(0.2)
    print(f"step {step} of 10", flush=True)
"done"
"""


def start() -> tuple[str, str, int]:
    """Start the job, read a part of what it says, and leave: as a program does that is stopped, or a laptop that is shut."""
    sandbox = Sandbox(timeout=3600, keep=True)
    run = sandbox.start_code(JOB, timeout=600)
    seen, seq = "", 0
    for event in run:
        seq = event["seq"]
        seen += event.get("text", "")
        if "step 3 of 10\n" in seen:
            break
    print(f"the first client saw:\n{seen}")
    sandbox.disconnect()
    return sandbox.sandbox_id, run.execution_id, seq


def come_back(sandbox_id: str, execution_id: str, after: int) -> None:
    """Go on where the first client stopped: nothing is missing, nothing comes twice. Another machine could do that, too."""
    with Sandbox.connect(sandbox_id) as sandbox:
        execution = sandbox.attach(execution_id, after).wait()
        print(f"the second client saw:\n{execution.stdout}")
        print(f"it ended: {execution.status}, {execution.text}")


if __name__ == "__main__":
    come_back(*start())
