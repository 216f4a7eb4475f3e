from k2sandbox import Sandbox


def test_a_sandbox_runs_code(sandbox: Sandbox) -> None:
    execution = sandbox.run_code("print('hello'); 6 * 7")
    assert (execution.text, execution.stdout, execution.is_error) == ("42", "hello\n", False)
