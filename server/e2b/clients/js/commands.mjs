// Commands and terminals.
import assert from 'node:assert/strict'
import test from 'node:test'
import { Heard, box, e2b, named } from './client.mjs'

const bytes = (text) => new TextEncoder().encode(text)

test('run', async () => {
  const heard = new Heard()
  const result = await box.commands.run('echo out; echo err >&2; pwd', { onStdout: heard.hear, onStderr: heard.hear, cwd: '/tmp' })
  assert.deepEqual([result.stdout, result.stderr, result.exitCode], ['out\n/tmp\n', 'err\n', 0])
  assert.ok(heard.text.includes('out\n') && heard.text.includes('err\n'))
  await assert.rejects(box.commands.run('echo out; exit 3'), (error) => {
    assert.ok(error instanceof e2b.CommandExitError)
    assert.deepEqual([error.exitCode, error.stdout, error.stderr, error.error], [3, 'out\n', '', 'exit status 3'])
    return true
  })
  await assert.rejects(box.commands.run('true', { cwd: '/nowhere' }), named(e2b.InvalidArgumentError, /nowhere/))
  assert.equal((await box.commands.run('printf %s "$ODD"', { envs: { ODD: '\'"\n ü' }, user: 'root' })).stdout, '\'"\n ü')
})

test('background: list, kill, handle', async () => {
  const heard = new Heard()
  const handle = await box.commands.run('echo up; sleep 300', { background: true, onStdout: heard.hear })
  await heard.says('up')
  assert.equal(handle.stdout, 'up\n')
  assert.deepEqual([handle.stderr, handle.exitCode, handle.error], ['', undefined, undefined])
  const info = (await box.commands.list()).find(({ pid }) => pid === handle.pid)
  assert.deepEqual([info.cmd, info.args], ['/bin/bash', ['-l', '-c', 'echo up; sleep 300']])
  assert.ok(await box.commands.kill(handle.pid))
  await assert.rejects(handle.wait(), named(e2b.CommandExitError))
  assert.equal(await box.commands.kill(handle.pid), false)
  const other = await box.commands.run('sleep 300', { background: true })
  assert.ok(await other.kill())
})

test('connect, disconnect', async () => {
  const first = await box.commands.run('until [ -e go3 ]; do sleep 0.02; done; echo second', { background: true, timeoutMs: 0 })
  await first.disconnect()
  const heard = new Heard()
  const again = await box.commands.connect(first.pid, { onStdout: heard.hear })
  await box.files.write('go3', '')
  await heard.says('second')
  assert.equal((await again.wait()).exitCode, 0)
  await box.files.remove('go3')
  await assert.rejects(box.commands.connect(999999), named(e2b.NotFoundError))
})

test('stdin', async () => {
  const heard = new Heard()
  assert.ok(box.commands.supportsStdinClose)
  const handle = await box.commands.run('cat', { background: true, stdin: true, onStdout: heard.hear })
  await box.commands.sendStdin(handle.pid, 'one\n')
  await heard.says('one\n')
  await handle.sendStdin('two\n')
  await heard.says('two\n')
  await handle.closeStdin()
  assert.equal((await handle.wait()).stdout, 'one\ntwo\n')
  const other = await box.commands.run('cat', { background: true, stdin: true })
  await box.commands.closeStdin(other.pid)
  assert.equal((await other.wait()).stdout, '')
  await assert.rejects(box.commands.sendStdin(999999, 'x'), named(e2b.NotFoundError))
})

test('timeout', async () => {
  await assert.rejects(box.commands.run('sleep 300', { timeoutMs: 1000 }), named(e2b.TimeoutError))
})

test('pty', async () => {
  const heard = new Heard()
  const handle = await box.pty.create({ cols: 80, rows: 24, cwd: '/tmp', envs: { MARK: 'here' }, onData: heard.hear })
  await box.pty.sendInput(handle.pid, bytes('echo $((6*7))-$MARK-$PWD; stty size\n'))
  await heard.says('42-here-/tmp')
  await heard.says('24 80')
  await box.pty.resize(handle.pid, { cols: 120, rows: 50 })
  const again = new Heard()
  const other = await box.pty.connect(handle.pid, { onData: again.hear })
  await box.pty.sendInput(handle.pid, bytes('stty size\n'))
  await heard.says('50 120')
  await again.says('50 120')
  await other.disconnect()
  assert.ok(await box.pty.kill(handle.pid))
  await assert.rejects(handle.wait(), named(e2b.CommandExitError))
  assert.equal(await box.pty.kill(handle.pid), false)
  await assert.rejects(box.pty.sendInput(handle.pid, bytes('x')), named(e2b.NotFoundError))
})
