// Pages of a browser that note every violation of a policy and every error: a test that ends with any has failed.
// CONSOLE_FAILED is a folder for a screenshot of each page at which a test failed.
import assert from 'node:assert/strict'
import { EventEmitter, once } from 'node:events'
import { accessSync, constants, mkdirSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import test, { after, before } from 'node:test'
import { chromium } from 'playwright-core'
import { Server } from './server.mjs'

const names = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable']
const quiet = ['--disable-gpu', '--disable-dev-shm-usage', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']

/** installed returns the path of the browser, which is the system's own. */
function installed() {
  for (const name of names) {
    for (const folder of (process.env.PATH ?? '').split(delimiter)) {
      const path = join(folder, name)
      try {
        accessSync(path, constants.X_OK)
        return path
      } catch {
        // It is not there.
      }
    }
  }
  throw new Error(`no chromium in PATH (${names.join(', ')}): install it, on Debian with "apt-get install chromium"`)
}

const executablePath = installed()
export const launch = () => chromium.launch({ executablePath, args: [...quiet, ...(process.getuid?.() === 0 ? ['--no-sandbox'] : [])] })

export const patience = Number(process.env.CONSOLE_PATIENCE ?? 120) * 1000 // that something is waited for, at most: machines are busy
const network = /^(Failed to load resource|WebSocket connection to)/ // which a test looks at itself

/** Tab is a page of a browser that knows its faults. */
class Tab extends EventEmitter {
  faults = []

  note(fault) {
    this.faults.push(fault)
    this.emit('fault')
  }

  /** fault waits until there is one that is as wanted. */
  async fault(wanted) {
    const signal = AbortSignal.timeout(patience)
    while (!this.faults.some((fault) => wanted.test(fault))) await once(this, 'fault', { signal })
  }

  static async open(browser, o = {}) {
    const tab = new Tab()
    const context = await browser.newContext({ viewport: { width: 1180, height: 780 }, permissions: ['clipboard-read', 'clipboard-write'], ...o })
    context.setDefaultTimeout(patience)
    await context.exposeBinding('k2violation', ({ frame }, said) => tab.note(`policy: ${said} at ${frame.url()}`))
    await context.addInitScript(() => {
      addEventListener('securitypolicyviolation', (e) => window.k2violation?.(`${e.effectiveDirective} ${e.blockedURI} ${e.sample} ${e.sourceFile ?? ''}:${e.lineNumber}`))
    })
    context.on('weberror', (e) => tab.note(`error: ${e.error().stack ?? e.error()}`))
    context.on('console', (m) => m.type() === 'error' && !network.test(m.text()) && tab.note(`console: ${m.text()}`))
    tab.context = context
    tab.page = await context.newPage()
    return tab
  }
}

/** house is a server and a browser for the tests of a file, which are scenes: each has a page that is logged in. Prepare is done before them; what
 * sandboxes it makes are there for all, those of a scene end with it. */
export function house({ prepare, ...options } = {}) {
  const h = {}
  before(async () => {
    h.browser = await launch()
    h.server = await Server.open(options)
    await prepare?.(h)
    h.kept = await h.server.ids()
  })
  after(async () => {
    await h.browser?.close()
    await h.server?.close()
  })

  /** enter opens a page that is logged in, at a fragment. */
  h.enter = async (at = '#/', o = {}) => {
    const tab = await Tab.open(h.browser, o)
    await tab.page.goto(await h.server.link())
    await tab.page.getByRole('heading', { name: 'Sandboxes' }).waitFor()
    await goto(tab.page, at)
    return tab
  }

  h.scene = (name, ...rest) => {
    const [o, body] = rest.length === 2 ? rest : [{}, ...rest]
    test(name, async (t) => {
      const tab = await h.enter('#/', o.context)
      try {
        await body({ t, tab, page: tab.page, server: h.server, enter: h.enter })
        assert.deepEqual(tab.faults, [], 'violations of the policy and errors')
      } catch (e) {
        await failed(name, tab, h.server)
        throw e
      } finally {
        await tab.context.close()
        await h.server.clear(h.kept)
      }
    })
  }
  h.tab = (o) => Tab.open(h.browser, o)
  return h
}

const clocked = new WeakSet()

/** still has the clock of a page stand still during act: what a person has seconds for takes a busy machine longer. */
export async function still(page, act) {
  if (!clocked.has(page)) await page.clock.install()
  clocked.add(page)
  await page.clock.pauseAt((await page.evaluate(() => Date.now())) + 30_000)
  await act(page.clock)
  await page.clock.resume()
}

/** goto changes the fragment: the page stays. */
export async function goto(page, at) {
  await page.evaluate((hash) => (location.hash = hash), at)
}

async function failed(name, tab, server) {
  const text = await tab.page.locator('body').innerText({ timeout: 5000 }).catch((e) => String(e))
  console.error(`failed: ${name}\nat ${tab.page.url()}\n${tab.faults.join('\n')}\n--- the page\n${text.slice(-4000)}\n--- the server\n${server.said.slice(-4).join('\n')}`)
  const folder = process.env.CONSOLE_FAILED
  if (!folder) return
  mkdirSync(folder, { recursive: true })
  await tab.page.screenshot({ path: join(folder, `${name.replace(/\W+/g, '-')}.png`), timeout: 10_000 }).catch(() => undefined)
}
