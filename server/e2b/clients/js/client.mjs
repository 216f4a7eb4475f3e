// The published client, as it is, and what the tests of it share. E2B_JS is the folder that npm ci installed it into.
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const installed = (name) => pathToFileURL(createRequire(process.env.E2B_JS + '/').resolve(name))

export const sources = { e2b: installed('e2b'), interpreter: installed('@e2b/code-interpreter') }
export const e2b = await import(sources.e2b)
export const { Sandbox } = await import(sources.interpreter)

// A sandbox that tests share: they leave the default context and the home folder as they were.
export const box = await Sandbox.create({ timeoutMs: 600_000, envs: { GREETING: 'hello' } })

const made = []

// create makes a sandbox that ends with the tests.
export async function create(...args) {
  made.push(await Sandbox.create(...args))
  return made.at(-1)
}

export async function close() {
  await Promise.all([box, ...made].map((each) => each.kill()))
}

// folder makes an empty folder in the shared sandbox.
export async function folder(name) {
  const path = `/home/user/${name}`
  await box.files.remove(path)
  await box.files.makeDir(path)
  return path
}

// Heard is what was said so far, and a way to wait for more.
export class Heard {
  text = ''
  all = []
  #wake = () => {}

  hear = (said) => {
    this.all.push(said)
    this.text += said instanceof Uint8Array ? Buffer.from(said).toString() : said
    this.#wake()
  }

  async until(done) {
    while (!done(this)) await new Promise((wake) => (this.#wake = wake))
  }

  says(what) {
    return this.until(() => this.text.includes(what))
  }
}

export const named = (error, message = /./) => (e) => {
  if (e instanceof error && message.test(e.message)) return true
  throw e
}
