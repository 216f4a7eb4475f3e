// The control plane: create, connect, list, info, timeouts, kill, pause, metrics, and what there is not.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import test from 'node:test'
import { Heard, Sandbox, box, create, e2b, named } from './client.mjs'

const nobody = () => 'i' + randomUUID().replaceAll('-', '').slice(0, 20)
const within = (ms, from, to) => assert.ok(from <= ms / 1000 && ms / 1000 <= to, `${ms / 1000} s`)

async function ended(it) {
  while (await it.isRunning());
}

async function listed(options) {
  const pages = Sandbox.list(options)
  const found = []
  while (pages.hasNext) found.push(...(await pages.nextItems()))
  return found
}

test('create, getInfo', async () => {
  const it = await create({ timeoutMs: 120_000, metadata: { user: 'Ada & Co=1' } })
  assert.ok(await it.isRunning())
  for (const info of [await it.getInfo(), await Sandbox.getInfo(it.sandboxId), await Sandbox.getFullInfo(it.sandboxId)]) {
    assert.equal(info.sandboxId, it.sandboxId)
    assert.deepEqual(info.metadata, { user: 'Ada & Co=1' })
    assert.equal(info.state, 'running')
    assert.ok(info.cpuCount >= 1 && info.memoryMB >= 1 && info.templateId && info.envdVersion)
    within(info.endAt - info.startedAt, 118, 180) // with its start
  }
  assert.match(it.getHost(8000), new RegExp('^8000-' + it.sandboxId))
  assert.ok(it.sandboxDomain)
})

test('create of what there is not', async () => {
  await assert.rejects(Sandbox.create('no-such-template'), named(e2b.SandboxError, /no-such-template/))
  await assert.rejects(Sandbox.create({ timeoutMs: 0 }), named(e2b.SandboxError, /timeout/i))
  await assert.rejects(Sandbox.create({ apiKey: 'e2b_' + '0'.repeat(40) }), named(e2b.AuthenticationError))
  assert.ok(await (await create('base', { timeoutMs: 60_000 })).isRunning())
})

test('connect', async () => {
  const it = await create({ timeoutMs: 300_000 })
  const end = (await it.getInfo()).endAt
  const other = await Sandbox.connect(it.sandboxId, { timeoutMs: 60_000 })
  assert.equal((await other.commands.run('echo there')).stdout, 'there\n')
  assert.deepEqual((await it.getInfo()).endAt, end)
  await it.connect({ timeoutMs: 600_000 })
  within((await it.getInfo()).endAt - end, 250, 310)
  await assert.rejects(Sandbox.connect(nobody()), named(e2b.NotFoundError, /not found/))
})

test('setTimeout', async () => {
  const it = await create({ timeoutMs: 300_000 })
  const before = (await it.getInfo()).endAt
  await it.setTimeout(30_000)
  within(before - (await it.getInfo()).endAt, 260, 275)
  await Sandbox.setTimeout(it.sandboxId, 900_000)
  within((await it.getInfo()).endAt - before, 590, 610)
  await assert.rejects(Sandbox.setTimeout(nobody(), 1000), named(e2b.NotFoundError))
  await it.setTimeout(0)
  await ended(it)
  await assert.rejects(it.commands.run('true'), named(e2b.SandboxError, /found|running/))
  await assert.rejects(it.runCode('1'), named(e2b.TimeoutError, /was not found.*time/))
  await assert.rejects(it.getInfo(), named(e2b.NotFoundError))
})

test('list', async () => {
  const mark = randomUUID()
  const query = { metadata: { mark } }
  const ids = []
  for (const n of [0, 1, 2]) ids.push((await create({ metadata: { mark, 'n o=&%': `ü ${n}` } })).sandboxId)
  const newest = [...ids].reverse()
  for (const limit of [undefined, 1, 2]) assert.deepEqual((await listed({ query, limit })).map((i) => i.sandboxId), newest)
  assert.deepEqual((await listed({ query, order: 'asc' })).map((i) => i.sandboxId), ids)
  assert.deepEqual((await listed({ query: { metadata: { mark, 'n o=&%': 'ü 1' } } })).map((i) => i.sandboxId), [ids[1]])
  assert.ok(await Sandbox.pause(ids[0]))
  for (const state of [['paused'], ['running']]) {
    for (const info of await listed({ query: { ...query, state } })) assert.deepEqual([info.state], state)
  }
  await assert.rejects(listed({ nextToken: 'nonsense' }), named(e2b.SandboxError))
})

test('kill', async () => {
  const it = await create()
  assert.ok(await it.kill())
  assert.ok(!(await it.isRunning()))
  assert.equal(await it.kill(), false)
  await assert.rejects(it.files.read('x'), named(e2b.SandboxError, /found|running/))
  const other = await create()
  assert.ok(await Sandbox.kill(other.sandboxId))
  assert.equal(await Sandbox.kill(nobody()), false)
})

test('kill during a run', async () => {
  const it = await create()
  const run = it.runCode("import time\nprint('up', flush=True)\ntime.sleep(300)", { onStdout: () => it.kill(), timeoutMs: 0 })
  await assert.rejects(run, named(e2b.TimeoutError, /killed/))
})

test('kill during a command', async () => {
  const it = await create()
  const heard = new Heard()
  const running = await it.commands.run('echo up; sleep 300', { background: true, onStdout: heard.hear })
  await heard.says('up')
  await it.kill()
  await assert.rejects(running.wait(), named(e2b.SandboxError))
})

test('pause, betaPause, connect', async () => {
  const it = await create()
  await it.runCode('x = 41')
  assert.ok(await it.pause())
  assert.equal(await it.pause(), false)
  assert.ok(!(await it.isRunning()))
  assert.equal((await it.getInfo()).state, 'paused')
  await it.connect()
  assert.equal((await it.runCode('x + 1')).text, '42')
  assert.ok(await it.betaPause())
  await Sandbox.connect(it.sandboxId)
  assert.ok(await Sandbox.betaPause(it.sandboxId))
  assert.ok(await it.kill())
})

test('pause at its timeout', async () => {
  const it = await create({ lifecycle: { onTimeout: 'pause' } })
  await it.setTimeout(0)
  await ended(it)
  assert.equal((await it.getInfo()).state, 'paused')
})

test('getMetrics', async () => {
  let samples = []
  while (!samples.length) samples = await box.getMetrics()
  for (const sample of [...samples, ...(await Sandbox.getMetrics(box.sandboxId))]) {
    assert.ok(sample.cpuCount >= 1 && sample.memUsed > 0 && sample.memUsed <= sample.memTotal)
  }
  const day = 86_400_000
  assert.deepEqual(await box.getMetrics({ start: new Date(Date.now() - 2 * day), end: new Date(Date.now() - day) }), [])
})

test('envs of a sandbox', async () => {
  assert.equal((await box.commands.run('echo $GREETING')).stdout, 'hello\n')
  assert.equal((await box.runCode("import os; os.environ['GREETING']")).text, 'hello')
})

test('what there is not', async () => {
  await assert.rejects(box.createSnapshot(), named(e2b.SandboxError, /snapshot/))
  await assert.rejects(Sandbox.createSnapshot(box.sandboxId), named(e2b.SandboxError, /snapshot/))
  for (const pages of [Sandbox.listSnapshots(), box.listSnapshots()]) assert.deepEqual(await pages.nextItems(), [])
  assert.equal(await Sandbox.deleteSnapshot('none'), false)
  await assert.rejects(box.fork(), named(e2b.SandboxError, /fork/))
  await assert.rejects(Sandbox.fork(box.sandboxId), named(e2b.SandboxError, /fork/))
  await assert.rejects(box.updateNetwork({ denyOut: ['192.0.2.1'] }), named(e2b.SandboxError, /network/))
  await Sandbox.updateNetwork(box.sandboxId, {})
  assert.match(box.getMcpUrl(), /\/mcp$/)
  await assert.rejects(box.getMcpToken(), named(e2b.NotFoundError))
  await assert.rejects(e2b.Volume.create('v'), named(Error, /404|501/))
  await assert.rejects(e2b.Secret.create('s', 'v'), named(Error, /404|501/))
  assert.equal(await e2b.Template.exists('t'), false)
})
