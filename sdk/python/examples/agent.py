"""A language model that works with code: the loop around its tool.

The model here is a script, so that this runs without a network and without a key. In its place goes any model
that can call tools: `respond` is the one thing to write.

    python agent.py
"""

from __future__ import annotations

from typing import Any

from k2sandbox import Execution, Sandbox

TOOL = {
    "name": "run_python",
    "description": "Run Python in a notebook that keeps its variables. Returns what it prints, its value, or its error.",
    "input_schema": {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]},
}

Message = dict[str, Any]


class ScriptedModel:
    """Says what a model could: it tries, sees an error, corrects itself, and answers from what it has seen."""

    def respond(self, messages: list[Message], tools: list[dict[str, Any]]) -> Message:
        seen = [message["content"] for message in messages if message["role"] == "tool"]
        if not seen:
            return self._call("import statistics\nfares = [7.25, 71.28, 8.05, 53.1]\nstatistics.avg(fares)")
        if "AttributeError" in seen[-1]:
            return self._call("round(statistics.mean(fares), 2)")  # the variables are still there
        return {"role": "assistant", "content": f"The mean fare is {seen[-1]}.", "tool_calls": []}

    def _call(self, code: str) -> Message:
        return {"role": "assistant", "content": "", "tool_calls": [{"name": "run_python", "input": {"code": code}}]}


def told(execution: Execution) -> str:
    """What the model is told of a run: short, and in text."""
    if execution.error is not None:
        return f"{execution.stdout}{execution.error}"
    return execution.text[:10_000] or "(no output)"


def answer(question: str, model: ScriptedModel, sandbox: Sandbox) -> str:
    """Let the model call its tool until it has an answer."""
    messages: list[Message] = [{"role": "user", "content": question}]
    for _ in range(10):
        message = model.respond(messages, [TOOL])
        messages.append(message)
        if not message["tool_calls"]:
            return str(message["content"])
        for call in message["tool_calls"]:
            print(f">>> {call['input']['code']}")
            execution = sandbox.run_code(call["input"]["code"], timeout=30)
            print(told(execution))
            messages.append({"role": "tool", "content": told(execution)})
    raise RuntimeError("no answer after 10 turns")


if __name__ == "__main__":
    with Sandbox(network={"mode": "none"}, metadata={"example": "agent"}) as sandbox:
        print(answer("What is the mean fare?", ScriptedModel(), sandbox))
