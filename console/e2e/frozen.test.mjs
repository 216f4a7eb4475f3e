// Never frozen: of floods the page has a bounded part, in nodes and in memory, and answers meanwhile.
import assert from 'node:assert/strict'
import { button, cellOf, editor, press, run } from './act.mjs'
import { goto, house } from './page.mjs'

const { scene } = house()

const maxElements = 12_000 // of a page; two streams of a cell are up to 2,250 lines each, with their spans
const maxHeap = 200 << 20 // bytes of JavaScript, after a collection

/** bounded looks at what the page costs. */
async function bounded(page) {
  const cdp = await page.context().newCDPSession(page)
  await cdp.send('HeapProfiler.collectGarbage')
  const { usedSize } = await cdp.send('Runtime.getHeapUsage')
  const elements = await page.evaluate(() => document.querySelectorAll('*').length)
  await cdp.detach()
  console.log(`${elements} elements, ${usedSize >> 20} MiB`)
  assert.ok(elements <= maxElements, `${elements} elements, want at most ${maxElements}`)
  assert.ok(usedSize <= maxHeap, `${usedSize >> 20} MiB of JavaScript's heap, want at most ${maxHeap >> 20}`)
}

/** answers has the page open its palette and close it: it does what it is told. */
async function answers(page) {
  await press(button(page, /^Commands/))
  await page.getByRole('combobox', { name: 'Commands' }).fill('dark')
  await page.getByRole('option', { name: 'Dark theme' }).waitFor()
  await page.keyboard.press('Escape')
  await page.getByRole('combobox', { name: 'Commands' }).waitFor({ state: 'detached' })
}

const inside = (name, body) =>
  scene(name, async (scene) => {
    const box = await scene.server.sandbox()
    await goto(scene.page, box.at())
    await editor(scene.page).waitFor()
    await body({ ...scene, box })
    await bounded(scene.page)
  })

inside('100,000 lines', async ({ page }) => {
  const cell = await run(page, 'for i in range(100_000): print(i)')
  await cell.state('done')
  const lines = await cell.lines()
  const hidden = Number((await cell.at.getByText(/lines hidden/).innerText()).replace(/\D/g, ''))
  const tail = lines.slice(-500)
  assert.deepEqual([lines[0], lines[999], tail[0], tail[499]], ['0', '999', '99500', '99999'])
  const shown = lines.filter((line) => /^\d+$/.test(line)).length
  assert.equal(shown + hidden, 100_000, `${shown} shown and ${hidden} hidden`)
  await press(button(cell.at, 'Load the middle'))
  await cell.at.locator('pre', { hasText: '1000\n1001\n1002' }).waitFor()
  await page.reload()
  await cellOf(page, cell.id).says(/^99999$/)
  await bounded(page)
})

inside('while True: print', async ({ page, box }) => {
  const cell = await run(page, 'i = 0\nwhile True:\n    print(i, "x" * 60)\n    i += 1')
  await cell.at.getByText(/lines hidden/).waitFor()
  await answers(page)
  await box.until(cell.id, (told) => told.bytes > 20 << 20)
  await bounded(page)
  await press(button(cell.at, 'Interrupt'))
  await cell.state('interrupted')
  await answers(page)
  await (await run(page, "print('goes on')")).says('goes on')
})

inside('one line of 50 MB', async ({ page }) => {
  const cell = await run(page, "print('x' * 50_000_000 + 'end')\nprint('behind')")
  await cell.state('done')
  await cell.says('behind')
  await cell.at.getByText(/more characters/).first().waitFor()
  await answers(page)
})

inside('20,000 displays', async ({ page }) => {
  const cell = await run(page, "from IPython.display import display\nfor i in range(20_000): display({'text/plain': f'display {i}.'}, raw=True)")
  await cell.state('done')
  await cell.says('display 0.')
  await cell.says('display 19999.')
  await cell.at.getByText(/outputs not shown here/).waitFor()
  await answers(page)
})

inside('2,000 frames of HTML', async ({ page }) => {
  const cell = await run(page, "from IPython.display import display, HTML\nfor i in range(2000): display(HTML(f'<b>frame {i}.</b>'))")
  await cell.state('done')
  await cell.at.getByText(/outputs not shown here/).waitFor()
  await cell.outputs.frameLocator('iframe').last().getByText(/^frame \d+\.$/).waitFor()
  const frames = await page.locator('iframe').count()
  assert.ok(frames <= 50, `${frames} frames live`)
})

inside('a bar of progress that moves 200,000 times', async ({ page }) => {
  const cell = await run(page, "import sys\nfor i in range(200_001): sys.stdout.write(f'\\r{i / 2000:.2f}%')\nprint()")
  await cell.state('done')
  assert.deepEqual(await cell.lines(), ['100.00%'])
})

inside('a directory of 10,000 files', async ({ page, box }) => {
  await box.code("import os\nos.mkdir('many')\nfor i in range(10_000): open(f'many/f{i:05}', 'w').close()")
  await goto(page, box.at('files'))
  const list = page.getByRole('listbox')
  await list.getByRole('option', { name: /^many/ }).click()
  await list.getByRole('option', { name: /^f00000/ }).waitFor()
  assert.equal(await list.getByRole('option').first().getAttribute('aria-setsize'), '10000')
  await bounded(page)
  await list.focus()
  await page.keyboard.press('End')
  await list.getByRole('option', { name: /^f09999/ }).waitFor()
  await box.code("open('many/zz', 'w').close()")
  await page.keyboard.press('End')
  await list.locator('[aria-setsize="10001"]').first().waitFor()
  await answers(page)
})

scene('1,000 sandboxes', async ({ page }) => {
  const now = new Date().toISOString()
  const one = (i) => ({
    sandbox_id: `sb_${String(i).padStart(4, '0')}`, template: 'python', state: 'running', cwd: '/', metadata: { n: String(i) }, created_at: now,
    last_active_at: now, expires_at: null, timeout: 300, limits: {}, network: { mode: 'none' }, isolation: { level: 'none', missing: {}, enforced: {} },
  })
  let asked = 0
  await page.route(/\/v1\/sandboxes\?/, (route) => {
    const from = Number(new URL(route.request().url()).searchParams.get('cursor') ?? 0)
    return route.fulfill({ json: { sandboxes: Array.from({ length: 200 }, (_, i) => one(from + i)), ...(from < 800 ? { next_cursor: String(from + 200) } : {}) } })
  })
  await page.route(/\/metrics/, (route) => {
    asked++
    return route.fulfill({ json: { metrics: [{ time: now, cpus: 0.5 }] } })
  })
  await page.reload()
  await page.getByRole('link', { name: 'sb_0000' }).waitFor()
  await page.getByLabel('Filter').fill('n:999')
  await page.getByRole('link', { name: 'sb_0999' }).waitFor()
  await page.getByRole('link', { name: 'sb_0000' }).waitFor({ state: 'detached' })
  await page.getByLabel('Filter').fill('')
  await page.getByRole('link', { name: 'sb_0000' }).waitFor()
  assert.ok(asked < 200, `${asked} were asked for what they use`)
  await bounded(page)
  await answers(page)
})
