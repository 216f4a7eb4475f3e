// @jupyterlab/services drives one sandbox as a whole Jupyter server: kernels, sessions, contents and terminals.
import assert from 'node:assert/strict'
import test, { after, before } from 'node:test'
import { finished, heard, services, settings } from './client.mjs'

const url = process.env.JUPYTER_URL
const token = process.env.JUPYTER_TOKEN
const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
const { ContentsManager, Drive, KernelManager, KernelSpecManager, SessionManager, TerminalManager } = services

let serverSettings, sandbox
let kernels, sessions, specs, contents, terminals

before(async () => {
  const base = process.env.JUPYTER_BASE ?? (await create())
  serverSettings = settings(base, token)
  kernels = new KernelManager({ serverSettings, standby: 'never' })
  sessions = new SessionManager({ serverSettings, kernelManager: kernels, standby: 'never' })
  specs = new KernelSpecManager({ serverSettings, standby: 'never' })
  contents = new ContentsManager({ defaultDrive: new Drive({ serverSettings }) })
  terminals = new TerminalManager({ serverSettings, standby: 'never' })
  // From now on they look what there is when they are told to: a list that was on its way when a kernel was started has a
  // manager end its connection to it, whatever server they talk to.
  for (const { ready, _pollModels: poll } of [kernels, sessions, terminals]) {
    await ready
    poll.frequency = { ...poll.frequency, interval: Infinity }
  }
})

// create makes a sandbox by the native API, and returns the URL at which it is a Jupyter server.
async function create() {
  const answer = await fetch(`${url}/v1/sandboxes`, { method: 'POST', headers, body: '{}' })
  assert.ok(answer.ok, await answer.clone().text())
  sandbox = (await answer.json()).sandbox_id
  return `${url}/jupyter/${sandbox}/`
}

after(async () => {
  for (const manager of [terminals, sessions, kernels, specs]) manager?.dispose()
  if (sandbox) await fetch(`${url}/v1/sandboxes/${sandbox}`, { method: 'DELETE', headers })
})

// native runs code by the sandbox's own API, and returns the lines that it says.
async function native(code) {
  const answer = await fetch(`${url}/v1/sandboxes/${sandbox}/code`, { method: 'POST', headers, body: JSON.stringify({ code }) })
  return (await answer.text()).trim().split('\n').map(JSON.parse)
}

test('kernelspecs', async () => {
  await specs.ready
  assert.equal(specs.specs.default, 'python3')
  const { display_name, language, resources } = specs.specs.kernelspecs.python3
  assert.ok(display_name)
  assert.equal(language, 'python')
  for (const path of Object.values(resources)) {
    const logo = await fetch(new URL(path, serverSettings.baseUrl), { headers })
    assert.match(logo.headers.get('content-type'), /^image/)
  }
})

test('a kernel', async () => {
  const kernel = await kernels.startNew({ name: 'python3' })
  assert.equal((await kernel.info).implementation, 'ipython')
  const said = await finished(kernel.requestExecute({ code: "print('hello')\n6 * 7" }))
  assert.deepEqual([said.reply.status, said.text, said.values.map((data) => data['text/plain'])], ['ok', 'hello\n', ['42']])
  assert.deepEqual(said.kinds.slice(0, 2), ['status', 'execute_input'])

  const { content } = await kernel.requestComplete({ code: 'impor', cursor_pos: 5 })
  assert.ok(content.matches.includes('import'))
  assert.ok((await kernel.requestInspect({ code: 'print', cursor_pos: 3, detail_level: 0 })).content.found)
  assert.equal((await kernel.requestIsComplete({ code: 'for x in y:' })).content.status, 'incomplete')
  await kernels.refreshRunning()
  assert.ok([...kernels.running()].some(({ id }) => id === kernel.id))
  await kernel.shutdown()
  await kernels.refreshRunning()
  assert.ok(![...kernels.running()].some(({ id }) => id === kernel.id))
})

test('input', async () => {
  const kernel = await kernels.startNew({ name: 'python3' })
  const future = kernel.requestExecute({ code: "print('hello ' + input('who? '))", allow_stdin: true })
  future.onStdin = ({ header, content }) => {
    assert.equal(content.prompt, 'who? ')
    kernel.sendInputReply({ status: 'ok', value: 'Ada' }, header)
  }
  assert.equal((await finished(future)).text, 'hello Ada\n')
  await kernel.shutdown()
})

test('interrupt and restart', async () => {
  const kernel = await kernels.startNew({ name: 'python3' })
  const future = kernel.requestExecute({ code: "x = 1\nprint('up', flush=True)\nimport time\ntime.sleep(300)" })
  const up = new Promise((resolve) => (future.onIOPub = ({ header }) => header.msg_type === 'stream' && resolve()))
  await up
  assert.equal(kernel.status, 'busy')
  await kernel.interrupt()
  assert.equal((await future.done).content.ename, 'KeyboardInterrupt')
  await kernel.restart()
  assert.equal((await finished(kernel.requestExecute({ code: 'x' }))).reply.ename, 'NameError')
  assert.equal(kernel.connectionStatus, 'connected')
  await kernel.shutdown()
})

test('comms with buffers', async () => {
  const kernel = await kernels.startNew({ name: 'python3' })
  const code = `
from comm import create_comm, get_comm_manager
def opened(comm, message):
    comm.on_msg(lambda m: comm.send({'n': len(m['buffers'])}, buffers=[bytes(b)[::-1] for b in m['buffers']]))
get_comm_manager().register_target('echo', opened)`
  assert.equal((await finished(kernel.requestExecute({ code }))).reply.status, 'ok')
  const comm = kernel.createComm('echo')
  await comm.open({}).done
  const answer = new Promise((resolve) => (comm.onMsg = resolve))
  comm.send({}, {}, [new Uint8Array([1, 2, 3]), new Uint8Array(70_000)])
  const { content, buffers } = await answer
  assert.equal(content.data.n, 2)
  assert.deepEqual([...new Uint8Array(buffers[0].buffer ?? buffers[0], buffers[0].byteOffset ?? 0, 3)], [3, 2, 1])
  await comm.close().done
  await kernel.shutdown()
})

test('what the native API runs is heard, and the other way round', { skip: !!process.env.JUPYTER_BASE }, async () => {
  await kernels.refreshRunning()
  const [model] = [...kernels.running()]
  const kernel = kernels.connectTo({ model })
  await kernel.info
  const ran = heard(kernel.anyMessage, ({ msg }) => msg.header.msg_type === 'stream' && msg.content.text === 'native\n')
  await native("seen = 'by the native API'\nprint('native')")
  await ran
  const said = await finished(kernel.requestExecute({ code: 'print(seen)\nmine = 8' }))
  assert.equal(said.text, 'by the native API\n')
  assert.ok((await native('print(mine)')).some(({ text }) => text === '8\n'))
  const runs = `${url}/v1/sandboxes/${sandbox}/executions`
  const { executions } = await (await fetch(runs, { headers })).json()
  const [, mine] = executions.filter(({ context }) => context === 'default') // the newest is first
  const events = await (await fetch(`${runs}/${mine.execution_id}/events`, { headers })).text()
  assert.match(events, /"by the native API\\n"/)
  kernel.dispose()
})

test('sessions', async () => {
  const session = await sessions.startNew({ path: 'a.ipynb', name: 'a', type: 'notebook', kernel: { name: 'python3' } })
  const again = await sessions.startNew({ path: 'a.ipynb', name: 'a', type: 'notebook', kernel: { name: 'python3' } })
  assert.equal(again.id, session.id)
  await session.setPath('b.ipynb')
  await session.setName('b')
  await session.setType('console')
  assert.deepEqual([session.path, session.name, session.type], ['b.ipynb', 'b', 'console'])
  const first = session.kernel.id
  const kernel = await session.changeKernel({ name: 'python3' })
  assert.notEqual(kernel.id, first)
  assert.equal((await finished(kernel.requestExecute({ code: 'print(1)' }))).text, '1\n')
  assert.equal((await sessions.findByPath('b.ipynb')).id, session.id)
  await sessions.refreshRunning()
  assert.ok([...sessions.running()].some(({ id }) => id === session.id))
  again.dispose()
  await session.shutdown()
  await sessions.refreshRunning()
  assert.ok(![...sessions.running()].some(({ id }) => id === session.id))
})

test('contents', async () => {
  const folder = await contents.newUntitled({ type: 'directory' })
  const file = await contents.newUntitled({ path: folder.path, type: 'file', ext: 'txt' })
  assert.equal(file.type, 'file')
  const saved = await contents.save(file.path, { type: 'file', format: 'text', content: 'é\n' })
  assert.equal(saved.size, 3)
  assert.equal((await contents.get(file.path)).content, 'é\n')
  assert.equal((await contents.get(file.path, { content: false })).content, null)
  await contents.save(`${folder.path}/bytes`, { type: 'file', format: 'base64', content: 'AP8=' })
  const bytes = await contents.get(`${folder.path}/bytes`, { type: 'file', format: 'base64', content: true })
  assert.deepEqual([bytes.format, bytes.content.trim()], ['base64', 'AP8='])

  const notebook = await contents.newUntitled({ path: folder.path, type: 'notebook' })
  assert.equal(notebook.type, 'notebook')
  const cells = [{ cell_type: 'code', source: '1', metadata: {}, outputs: [], execution_count: null, id: 'one' }]
  const content = { cells, metadata: {}, nbformat: 4, nbformat_minor: 5 }
  await contents.save(notebook.path, { type: 'notebook', format: 'json', content })
  const kept = await contents.get(notebook.path)
  assert.deepEqual([kept.format, kept.content.cells[0].source, kept.mimetype], ['json', '1', null])

  const listed = await contents.get(folder.path)
  assert.deepEqual(listed.content.map(({ type }) => type).sort(), ['file', 'file', 'notebook'])
  assert.deepEqual([listed.type, listed.format, listed.content[0].content], ['directory', 'json', null])
  const moved = await contents.rename(file.path, `${folder.path}/moved.txt`)
  assert.equal(moved.name, 'moved.txt')
  const copied = await contents.copy(moved.path, folder.path)
  assert.equal((await contents.get(copied.path)).content, 'é\n')

  const checkpoint = await contents.createCheckpoint(moved.path)
  await contents.save(moved.path, { type: 'file', format: 'text', content: 'changed' })
  assert.deepEqual((await contents.listCheckpoints(moved.path)).map(({ id }) => id), [checkpoint.id])
  await contents.restoreCheckpoint(moved.path, checkpoint.id)
  assert.equal((await contents.get(moved.path)).content, 'é\n')
  await contents.deleteCheckpoint(moved.path, checkpoint.id)
  assert.deepEqual(await contents.listCheckpoints(moved.path), [])

  const download = await fetch(await contents.getDownloadUrl(moved.path), { headers })
  assert.equal(await download.text(), 'é\n')
  for (const { path } of (await contents.get(folder.path)).content) await contents.delete(path)
  await contents.delete(folder.path)
  await assert.rejects(contents.get(folder.path), ({ response }) => response.status === 404)
})

test('contents that are large are saved in chunks', async () => {
  const half = Buffer.alloc(1 << 20, 'x').toString('base64')
  await contents.save('large.bin', { type: 'file', format: 'base64', content: half, chunk: 1 })
  await contents.save('large.bin', { type: 'file', format: 'base64', content: half, chunk: -1 })
  assert.equal((await contents.get('large.bin', { content: false })).size, 2 << 20)
  await contents.delete('large.bin')
})

test('contents do not leave the sandbox', async () => {
  for (const path of ['../etc/passwd', '..%2f..%2fetc/passwd', 'a/../../etc/passwd']) {
    const answer = await fetch(`${serverSettings.baseUrl}api/contents/${path}`, { headers })
    assert.ok([400, 403, 404].includes(answer.status), `${path}: ${answer.status}`)
  }
})

test('terminals', async () => {
  const session = await terminals.startNew()
  let screen = ''
  const see = (what) =>
    new Promise((resolve) => {
      const slot = (_, message) => {
        if (message.type === 'stdout') screen += message.content[0]
        if (screen.includes(what)) (session.messageReceived.disconnect(slot), resolve())
      }
      session.messageReceived.connect(slot)
    })
  const answered = see('is 42')
  session.send({ type: 'set_size', content: [31, 97, 600, 800] })
  session.send({ type: 'stdin', content: ['echo the answer is $((6 * 7))\r'] })
  await answered
  const sized = see('31 97')
  session.send({ type: 'stdin', content: ['stty size\r'] })
  await sized
  await terminals.refreshRunning()
  assert.ok([...terminals.running()].some(({ name }) => name === session.name))

  const second = terminals.connectTo({ model: { name: session.name } })
  const both = see('for both')
  second.send({ type: 'stdin', content: ['echo for both\r'] })
  await both
  second.dispose()

  const gone = heard(session.disposed, () => true)
  session.send({ type: 'stdin', content: ['exit\r'] })
  await gone // it hears of the end
  const other = await terminals.startNew()
  await other.shutdown()
  await terminals.refreshRunning()
  assert.ok(![...terminals.running()].some(({ name }) => name === other.name))
})

test('the server tells its version and status', async () => {
  assert.match((await (await fetch(`${serverSettings.baseUrl}api`, { headers })).json()).version, /^\d+\.\d+/)
  const status = await (await fetch(`${serverSettings.baseUrl}api/status`, { headers })).json()
  assert.ok(['started', 'last_activity', 'connections', 'kernels'].every((name) => name in status), JSON.stringify(status))
  assert.ok('identity' in (await (await fetch(`${serverSettings.baseUrl}api/me`, { headers })).json()))
})
