// What the page costs to load, as the server sends it: more than this is refused.
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'node:test'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { editor } from './act.mjs'
import { goto, house } from './page.mjs'

const kB = 1000
const { scene, tab: blank } = house()

test('all that is embedded is at most 1.5 MB, compressed', () => {
  const dist = fileURLToPath(new URL('../../server/console/dist', import.meta.url))
  const sizes = readdirSync(dist, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => gzipSync(readFileSync(join(entry.parentPath, entry.name)), { level: 9 }).length)
  const all = sizes.reduce((sum, size) => sum + size, 0)
  assert.ok(sizes.length > 5 && all <= 1500 * kB, `${Math.round(all / kB)} kB`)
})

/** counted sums what a page loads of the console, and notes whatever it loads from elsewhere. */
function counted(page, origin) {
  const loaded = { bytes: 0, elsewhere: [], plain: [] }
  page.on('response', (answer) => {
    const url = new URL(answer.url())
    if (url.protocol === 'blob:' || url.protocol === 'data:') return
    if (url.origin !== origin) loaded.elsewhere.push(answer.url())
    if (!url.pathname.startsWith('/console/')) return
    const headers = answer.headers()
    if (headers['content-encoding'] !== 'gzip') loaded.plain.push(url.pathname)
    loaded.bytes += Number(headers['content-length'])
  })
  return loaded
}

scene('the shell is at most 80 kB, and the first load of Run at most 250 kB', async ({ server, tab }) => {
  const fresh = await blank()
  const { page } = fresh
  const origin = new URL(server.url).origin
  await fresh.context.addCookies(await tab.context.cookies())
  const loaded = counted(page, origin)
  await page.goto(server.url + '/console/')
  await page.getByRole('heading', { name: 'Sandboxes' }).waitFor()
  await page.waitForLoadState('load')
  console.log(`shell: ${(loaded.bytes / kB).toFixed(1)} kB`)
  assert.ok(loaded.bytes > kB && loaded.bytes <= 80 * kB, `the shell: ${loaded.bytes} bytes`)
  const box = await server.sandbox()
  await goto(page, box.at())
  await editor(page).waitFor()
  console.log(`Run: ${(loaded.bytes / kB).toFixed(1)} kB`)
  assert.ok(loaded.bytes <= 250 * kB, `Run: ${loaded.bytes} bytes`)
  for (const screen of ['files', 'terminal', 'activity']) {
    await goto(page, box.at(screen))
    await page.locator('nav a[aria-current="page"]', { hasText: new RegExp(screen, 'i') }).waitFor()
  }
  assert.deepEqual(loaded.elsewhere, [], 'nothing comes from elsewhere')
  assert.deepEqual(loaded.plain, [], 'all is compressed')
  await fresh.context.close()
})
