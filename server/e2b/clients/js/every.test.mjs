// All tests of the npm client, and that they made every public call of it: V8 counts, nothing of the client is changed.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { Session } from 'node:inspector/promises'
import test, { after } from 'node:test'

const session = new Session()
session.connect()
await session.post('Profiler.enable')
await session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: false })

const { Sandbox, box, close, e2b, sources } = await import('./client.mjs')
after(close)
for (const part of ['sandbox', 'code', 'commands', 'files']) await import(`./${part}.mjs`)

// Their classes are not exported by name: they are those of objects.
const handle = await box.commands.run('true', { background: true })
await handle.wait()
const watch = await box.files.watchDir('/tmp', () => {})
await watch.stop()

const api = Object.getPrototypeOf(Object.getPrototypeOf(Sandbox))
const classes = {
  Sandbox: [Sandbox.prototype, e2b.Sandbox.prototype],
  'Sandbox (class)': [Sandbox, e2b.Sandbox, api],
  files: [Object.getPrototypeOf(box.files)],
  commands: [Object.getPrototypeOf(box.commands)],
  pty: [Object.getPrototypeOf(box.pty)],
  git: [Object.getPrototypeOf(box.git)],
  handle: [Object.getPrototypeOf(handle)],
  watch: [Object.getPrototypeOf(watch)],
}
// TypeScript's private and protected members, which JavaScript does not hide.
const internal = new Set(readInternal())

function readInternal() {
  const types = [sources.e2b, sources.interpreter].map((url) => readFileSync(new URL('index.d.ts', url), 'utf8')).join('\n')
  return [...types.matchAll(/^ {2}(?:private|protected)(?: static)?(?: readonly)?(?: get)? (\w+)/gm)].map((m) => m[1])
}

// called returns the text of every function of the client that was called.
async function called() {
  const { result } = await session.post('Profiler.takePreciseCoverage')
  const texts = new Set()
  for (const script of result.filter(({ url }) => [sources.e2b.href, sources.interpreter.href].includes(url))) {
    const source = readFileSync(new URL(script.url), 'utf8')
    for (const { ranges: [range] } of script.functions) {
      if (range.count > 0) texts.add(source.slice(range.startOffset, range.endOffset))
    }
  }
  return texts
}

test('every call was made', async () => {
  const texts = await called()
  const missed = []
  for (const [name, owners] of Object.entries(classes)) {
    for (const owner of owners) {
      for (const [method, { value, get }] of Object.entries(Object.getOwnPropertyDescriptors(owner))) {
        const it = typeof value === 'function' ? value : get
        if (it && method !== 'constructor' && !internal.has(method) && !texts.has(String(it))) missed.push(`${name}.${method}`)
      }
    }
  }
  assert.deepEqual(missed, [])
})
