// A server of the tests: `k2sandbox serve` on loopback, with a key, which can be killed and started again at the same address.
// K2_BINARY is the program and K2_PYTHON the interpreter of its kernels.
import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'

const { K2_BINARY, K2_PYTHON } = process.env
assert.ok(K2_BINARY && K2_PYTHON, 'K2_BINARY and K2_PYTHON say what is tested: run make console-e2e')

const servers = new Set()
process.on('SIGTERM', () => process.exit(1)) // of a test that took too long
process.on('exit', () => {
  for (const server of servers) server.child?.kill('SIGTERM')
})

export class Server {
  key = 'k2_' + randomBytes(20).toString('hex')
  state = mkdtempSync(join(tmpdir(), 'k2e2e-'))
  listen = '127.0.0.1:0'
  url = ''
  child = null
  said = [] // the end of its log

  /** open starts a server with more flags than those that all have. Without keys is for `keys: false`. */
  static async open({ flags = [], keys = true } = {}) {
    const server = new Server()
    Object.assign(server, { flags, keys })
    servers.add(server)
    await server.start()
    return server
  }

  async start() {
    const flags = ['--listen', this.listen, '--state-dir', join(this.state, 'state'), '--python', K2_PYTHON, ...this.flags]
    const env = { ...process.env, HOME: this.state, K2_API_KEYS: this.keys ? `e2e:${this.key}` : '' }
    const child = spawn(K2_BINARY, ['serve', ...flags], { env, stdio: ['ignore', 'pipe', 'pipe'] })
    this.child = child
    this.ended = once(child, 'exit')
    createInterface(child.stderr).on('line', (line) => (this.said = [...this.said.slice(-200), line]))
    const listening = (async () => {
      for await (const line of createInterface(child.stdout)) {
        const url = /^listening on (\S+)/.exec(line)?.[1]
        if (url) return url
      }
    })()
    this.url = await Promise.race([listening, this.ended.then(() => undefined)])
    assert.ok(this.url, `the server ended:\n${this.said.join('\n')}`)
    this.listen = new URL(this.url).host
  }

  /** kill ends it as a crash would: nothing is told, and its sandboxes live on. */
  async kill() {
    this.child.kill('SIGKILL')
    await this.ended
  }

  get runs() {
    return this.child.exitCode === null && this.child.signalCode === null
  }

  /** stop ends it as who runs it does. */
  async stop() {
    if (this.runs) this.child.kill('SIGTERM')
    await this.ended
  }

  async close() {
    await this.clear([]) // or they stay, where the server is told to keep them
    await this.stop()
    servers.delete(this)
    rmSync(this.state, { recursive: true, force: true })
  }

  /** ask asks the API with the key, and returns the JSON of its answer. */
  async ask(method, path, body) {
    const answer = await this.send(method, path, body === undefined ? {} : { body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' } })
    return answer.status === 204 ? undefined : answer.json()
  }

  async send(method, path, { body, headers } = {}) {
    const answer = await fetch(new URL(path, this.url), { method, body, headers: { 'X-API-Key': this.key, ...headers } })
    assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${answer.ok ? '' : await answer.clone().text()}`)
    return answer
  }

  async sandbox(metadata = {}) {
    const { sandbox_id } = await this.ask('POST', '/v1/sandboxes', { metadata, timeout: 3600 }) // however slow the machine is
    return new Sandbox(this, sandbox_id)
  }

  /** ids are those of the sandboxes that there are. */
  async ids() {
    const { sandboxes } = await this.ask('GET', '/v1/sandboxes')
    return sandboxes.map((one) => one.sandbox_id)
  }

  /** clear ends all sandboxes but those that are kept, and starts the server where it was left ended. */
  async clear(kept) {
    if (!this.runs) await this.start()
    const over = (await this.ids()).filter((id) => !kept.includes(id))
    await Promise.all(over.map((id) => fetch(new URL(`/v1/sandboxes/${id}`, this.url), { method: 'DELETE', headers: { 'X-API-Key': this.key } })))
  }

  /** link is an address that logs in, once. */
  async link() {
    const { path } = await this.ask('POST', '/v1/console/links')
    return this.url + path
  }

  /** printed is what `k2sandbox console` prints: such an address. */
  async printed() {
    const { stdout } = await promisify(execFile)(K2_BINARY, ['console', '--no-open', '--url', this.url], {
      env: { ...process.env, K2_API_KEY: this.keys ? this.key : '' },
    })
    return stdout.trim()
  }

  sessions = () => JSON.parse(readFileSync(join(this.state, 'state', 'console.json'), 'utf8'))
}

/** Sandbox is one as a client of the API sees it: what happens to it behind the page's back. */
class Sandbox {
  constructor(server, id) {
    this.server = server
    this.id = id
    this.path = `/v1/sandboxes/${id}`
  }

  at = (screen = 'run') => `#/sb/${this.id}/${screen}`
  ask = (method, path, body) => this.server.ask(method, this.path + path, body)
  /** code runs a cell to its end, which has to be a good one, and returns the first of its events. */
  async code(code) {
    const body = JSON.stringify({ code })
    const answer = await this.server.send('POST', `${this.path}/code`, { body, headers: { 'Content-Type': 'application/json' } })
    const events = (await answer.text()).trim().split('\n').map((line) => JSON.parse(line))
    assert.equal(events.at(-1).status, 'ok', JSON.stringify(events))
    return events[0]
  }

  write = (path, body) => this.server.send('PUT', `${this.path}/files?path=${encodeURIComponent(path)}`, { body })
  read = async (path) => (await this.server.send('GET', `${this.path}/files?path=${encodeURIComponent(path)}`)).text()

  /** until asks about a run until what it says is wanted. */
  async until(run, wanted) {
    for (;;) {
      const told = await this.ask('GET', `/executions/${run}`)
      if (wanted(told)) return told
      assert.notEqual(told.state, 'done', JSON.stringify(told))
      await new Promise((done) => setTimeout(done, 50)) // between two questions
    }
  }
}
