// The published client of MCP, as it is, calls every tool of a server over both transports. MCP_JS is the folder that npm ci
// installed it into; MCP_URL is a server, K2_API_KEY a key of its, MCP_BINARY the program.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { after, describe, test } from 'node:test'
import { pathToFileURL } from 'node:url'

const { resolve } = createRequire(process.env.MCP_JS + '/')
const installed = (name) => import(pathToFileURL(resolve(`@modelcontextprotocol/sdk/${name}`)))
const { Client } = await installed('client/index.js')
const { StdioClientTransport } = await installed('client/stdio.js')
const { StreamableHTTPClientTransport } = await installed('client/streamableHttp.js')

const { MCP_URL: url, MCP_BINARY: binary, K2_API_KEY: key, PATH, HOME } = process.env
const transports = {
  http: () => new StreamableHTTPClientTransport(new URL('/mcp', url), { requestInit: { headers: { Authorization: `Bearer ${key}` } } }),
  stdio: () => new StdioClientTransport({ command: binary, args: ['mcp', '--url', url], env: { PATH, HOME, K2_API_KEY: key } }),
}

async function connect(name) {
  const client = new Client({ name: 'k2sandbox-test', version: '1' })
  await client.connect(transports[name]())
  return client
}

const textOf = (result) => result.content.filter((c) => c.type === 'text').map((c) => c.text).join('\n')

describe('MCP', { concurrency: true }, () => Object.keys(transports).map((name) =>
  describe(name, { concurrency: true }, async () => {
    const client = await connect(name)
    // use calls a tool in the default sandbox, and expects no error unless that is asked for.
    const use = async (tool, args = {}, { fails = false, ...options } = {}) => {
      const result = await client.callTool({ name: tool, arguments: args }, undefined, options)
      assert.equal(Boolean(result.isError), fails, textOf(result))
      return { ...result, text: textOf(result), it: result.structuredContent ?? result._meta['k2sandbox/answer'] }
    }
    // made is a sandbox of a test's own, so that its runs wait for nobody's.
    const made = async () => (await use('sandbox', { action: 'create' })).it.sandbox_id
    after(() => client.close())

    test('the nine tools are told in few words', async () => {
      const { tools } = await client.listTools()
      const names = tools.map((t) => t.name).sort()
      assert.deepEqual(names, ['get_run', 'install_packages', 'interrupt_run', 'list_files', 'read_file', 'run_code', 'run_command', 'sandbox', 'write_file'])
      for (const { description, inputSchema, annotations } of tools) {
        assert.ok(description.length <= 400, description)
        assert.equal(inputSchema.type, 'object')
        assert.equal(typeof annotations.readOnlyHint, 'boolean')
      }
      assert.ok(client.getInstructions().length <= 1500)
    })

    test('every tool works in the default sandbox', async () => {
      assert.equal((await use('run_code', { code: 'x = 20; print("hi"); x + 1' })).text, 'hi\n\nresult:\n21')
      assert.equal((await use('run_code', { code: 'x' })).text, '20')
      const { it, text } = await use('run_command', { command: 'echo $((6 * 7)); exit 3' })
      assert.equal(it.exit_code, 3)
      assert.match(text, /^42\n\[exit status 3\]/)
      assert.equal((await use('write_file', { path: 'a/b.txt', content: 'one\ntwo\n' })).it.created, true)
      assert.match((await use('read_file', { path: 'a/b.txt', offset: 2 })).text, /^two/)
      assert.match((await use('list_files', { path: 'a' })).text, /b\.txt {2}8 bytes/)
      assert.ok((await use('install_packages', { packages: ['pip'] })).it.run_id)
      const slow = await use('run_code', { code: 'import time\nfor i in range(600): print(i, flush=True); time.sleep(0.1)', timeout_s: 1 })
      assert.equal(slow.it.status, 'running')
      assert.match(slow.text, /still running/)
      const more = await use('get_run', { run_id: slow.it.run_id, after: slow.it.next_cursor, wait_s: 1 })
      assert.ok(!more.it.stdout.includes('\n0\n') && more.it.stdout.length > 0, more.text)
      assert.equal((await use('interrupt_run', { run_id: slow.it.run_id })).it.status, 'interrupted')
      assert.equal((await use('run_code', { code: 'x' })).text, '20')
    })

    test('errors say what to do', async () => {
      const failed = await use('run_code', { code: '1 / 0' })
      assert.equal(failed.it.status, 'error')
      assert.match(failed.text, /ZeroDivisionError: division by zero/)
      assert.match((await use('run_code', { code: '1', timeout_s: -1 }, { fails: true })).text, /^invalid_request: timeout_s: .*\. try: /)
      assert.match((await use('run_code', {}, { fails: true })).text, /^invalid_request: code: is required\. try: /)
      assert.match((await use('get_run', { run_id: 'ex_none' }, { fails: true })).text, /^not_found: .*\. try: /)
      assert.match((await use('read_file', { path: '/none', sandbox_id: 'sb_none' }, { fails: true })).text, /^not_found: .*\. try: /)
      await assert.rejects(use('no_such_tool'))
    })

    test('progress comes while it runs, and grows', async () => {
      const seen = []
      const sandbox_id = await made()
      await use('run_code', { sandbox_id, code: 'import time\nfor i in range(30): print("step", i, flush=True); time.sleep(0.1)' }, { onprogress: (p) => seen.push(p) })
      assert.ok(seen.length >= 2, JSON.stringify(seen))
      seen.reduce((a, b) => (assert.ok(b.progress > a.progress), b))
      assert.match(seen.at(-1).message, /^step \d+$/)
    })

    test('a call that is cancelled interrupts, and keeps what was', async () => {
      const sandbox_id = await made()
      const controller = new AbortController()
      const begun = Promise.withResolvers?.() ?? {}
      begun.promise ??= new Promise((done) => (begun.resolve = done))
      const call = use('run_code', { sandbox_id, code: 'kept = 5; print("begun", flush=True)\nimport time; time.sleep(300)' },
        { signal: controller.signal, onprogress: (p) => p.message === 'begun' && begun.resolve() })
      await begun.promise
      controller.abort('enough')
      await assert.rejects(call)
      assert.equal((await use('run_code', { sandbox_id, code: 'kept' })).text, '5')
    })

    test('5 MB of output are an answer that is small and exact', async () => {
      const sandbox_id = await made()
      const { it, text } = await use('run_code', { sandbox_id, code: 'for part in range(50): print("\\n".join(f"{i:09}" for i in range(part * 10_000, part * 10_000 + 10_000)))' })
      const [, left] = text.match(/\[… (\d+) characters were left out here: get_run with run_id \S+ and after (\S+) reads on from here …\]/)
      const shown = text.replace(/\[… .* …\]\n/, '').length + 1
      assert.equal(Number(left) + shown, 5_000_000)
      assert.ok(text.startsWith('000000000\n') && text.endsWith('\n000499999'))
      const next = await use('get_run', { sandbox_id, run_id: it.run_id, after: it.omitted[0].after })
      const head = text.slice(0, text.indexOf('[… '))
      assert.ok(next.text.startsWith(String(head.length / 10).padStart(9, '0')))
    })

    test('a 4 MB image is shown small, and is there as it was', async () => {
      const sandbox_id = await made()
      const result = await use('run_code', { sandbox_id, code: `
import os, io, hashlib
from PIL import Image
from IPython.display import display, Image as Picture
b = io.BytesIO(); Image.frombytes('RGB', (1300, 1050), os.urandom(1300 * 1050 * 3)).save(b, 'PNG')
display(Picture(b.getvalue())); print(hashlib.sha256(b.getvalue()).hexdigest(), len(b.getvalue()))` })
      const [, hash, size] = result.text.match(/([0-9a-f]{64}) (\d+)/)
      assert.ok(Number(size) > 4_000_000)
      const image = result.content.find((c) => c.type === 'image')
      assert.ok(image.data.length <= 48 << 10, `${image.data.length}`)
      assert.match(result.text, /image\/png, 1300×1050 pixels/)
      const link = result.content.find((c) => c.type === 'resource_link')
      const { contents: [original] } = await client.readResource({ uri: link.uri })
      const digest = async (data) => Buffer.from(await crypto.subtle.digest('SHA-256', data)).toString('hex')
      assert.equal(await digest(Buffer.from(original.blob, 'base64')), hash)
      const { path } = result.it.outputs[0]
      assert.match((await use('run_command', { sandbox_id, command: `sha256sum ${path}` })).text, new RegExp(`^${hash}`))
      const again = await use('read_file', { sandbox_id, path })
      assert.ok(again.content.some((c) => c.type === 'image'))
      assert.ok(JSON.stringify(result).length < 200_000)
    })

    test('a run of 2 minutes goes on, and is read by get_run', { timeout: 200_000 }, async () => {
      const sandbox_id = await made()
      let { it } = await use('run_code', { sandbox_id, code: 'import time\nfor i in range(120): print(i, flush=True); time.sleep(1)\n"done"' }, { timeout: 55_000 })
      assert.equal(it.status, 'running')
      let seen = it.stdout
      while (it.status === 'running') {
        ;({ it } = await use('get_run', { sandbox_id, run_id: it.run_id, after: it.next_cursor }, { timeout: 55_000 }))
        seen += it.stdout ?? ''
      }
      assert.equal(it.result, "'done'\n")
      assert.equal(seen, Array.from({ length: 120 }, (_, i) => `${i}\n`).join(''))
    })

    test('sandboxes are told, extended and exposed', async () => {
      const sandbox_id = await made()
      assert.match((await use('sandbox', { action: 'info', sandbox_id })).text, new RegExp(sandbox_id))
      assert.ok((await use('sandbox', { action: 'list' })).it.sandboxes.some((s) => s.sandbox_id === sandbox_id))
      await use('sandbox', { action: 'extend', sandbox_id, timeout_s: 900 })
      await use('run_command', { sandbox_id, command: 'python3 -m http.server 8123', timeout_s: 1 })
      const { it } = await use('sandbox', { action: 'expose_port', sandbox_id, port: 8123 })
      assert.match(it.url, /8123/)
      await use('sandbox', { action: 'delete', sandbox_id })
      assert.match((await use('run_code', { sandbox_id, code: '1' }, { fails: true })).text, /^(gone|not_found): .*try: /)
    })
  })))
