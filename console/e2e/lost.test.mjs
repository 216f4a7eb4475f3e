// Never lost: a page that is loaded again, a network that is cut and a server that is killed cost no event. Each is shown once, in order.
import assert from 'node:assert/strict'
import { cellOf, editor, gates, numbers, run, same } from './act.mjs'
import { goto, house } from './page.mjs'
import { Wire } from './wire.mjs'

const { scene } = house({ flags: ['--on-stop', 'keep'] })

/** counts is Python that prints 400 numbers four times, and waits for a gate between. */
const counts = `${gates}
for i in range(1600):
    print(i)
    if i % 400 == 399 and i < 1599: gate(i // 400)
`

/** counting is a scene with a run that has shown its first 400 numbers, and goes on when told. */
const counting = (name, body) =>
  scene(name, async (scene) => {
    const { page, server } = scene
    const box = await server.sandbox()
    await goto(page, box.at())
    const cell = await run(page, counts)
    await shows(cell, 399)
    const go = (gate) => box.write(`gate${gate}`, '')
    const written = (events) => box.until(cell.id, (told) => told.bytes >= events)
    await body({ ...scene, box, cell, go, written })
    await whole(cellOf(page, cell.id))
  })

const shows = (cell, n) => cell.text.locator('div', { hasText: new RegExp(`^${n}\\n?$`) }).last().waitFor()

/** whole has a run come to its end, and to that of what it wrote, which a page that was just loaded shows later than that the run is done. */
async function whole(cell) {
  await cell.state('done')
  await shows(cell, 1599)
  same(await cell.lines(), numbers(1600))
}

const bytes = (n) => numbers(n).join('\n').length + 1

counting('a reload in the middle of a run', async ({ page, cell, go }) => {
  await page.reload()
  await shows(cellOf(page, cell.id), 399)
  await go(0)
  await shows(cellOf(page, cell.id), 799)
  await go(1)
  await page.reload() // while it writes
  await shows(cellOf(page, cell.id), 1199)
  await go(2)
})

counting('what is written while no page is open', async ({ page, server, box, cell, go, written }) => {
  await page.goto('about:blank')
  await go(0)
  await go(1)
  await written(bytes(1200))
  await page.goto(server.url + '/console/' + box.at())
  await shows(cellOf(page, cell.id), 1199)
  await go(2)
})

/** wired is a scene whose page reaches the server by a wire. */
const wired = (name, body) =>
  counting(name, async (scene) => {
    const { page, server, box, cell } = scene
    const wire = await Wire.open(server)
    try {
      await page.clock.install()
      await page.goto((await server.link()).replace(server.url, wire.url))
      await page.getByRole('heading', { name: 'Sandboxes' }).waitFor()
      await goto(page, box.at())
      await shows(cell, 399)
      await body({ ...scene, wire })
      await whole(cell)
    } finally {
      wire.close()
    }
    await page.goto(server.url + '/console/' + box.at())
  })

wired('a network that is cut, for 30 seconds and for a moment', async ({ page, wire, cell, go, written }) => {
  wire.cut()
  await page.locator('.pill.waiting').waitFor()
  await go(0)
  await written(bytes(800))
  for (let seconds = 0; seconds < 30; seconds += 5) await page.clock.fastForward(5000) // in which it tries, in vain
  await page.getByText('It is tried again; nothing is lost.').waitFor()
  wire.mend()
  await page.clock.fastForward(10_000)
  await page.getByText(/events? replayed/).waitFor()
  await shows(cell, 799)
  wire.cut()
  await go(1)
  await written(bytes(1200))
  wire.mend()
  await shows(cell, 1199)
  await go(2)
})

wired('a network that goes silent, for a while and for long', async ({ page, wire, cell, go, written }) => {
  wire.silence()
  await go(0)
  await written(bytes(800))
  wire.mend()
  await shows(cell, 799)
  wire.silence()
  await go(1)
  await written(bytes(1200))
  await page.clock.fastForward(60_000)
  await page.locator('.pill.waiting, .pill.connecting').waitFor()
  wire.mend()
  await shows(cell, 1199)
  await page.locator('.pill.live').waitFor()
  await go(2)
})

counting('a server that is killed, and comes back', async ({ page, server, cell, go }) => {
  await server.kill()
  await page.locator('.pill.waiting').waitFor()
  await server.start()
  await page.locator('.pill.live').waitFor()
  await go(0)
  await shows(cell, 799)
  await server.kill()
  await server.start()
  await page.reload()
  await shows(cellOf(page, cell.id), 799)
  await go(1)
  await shows(cellOf(page, cell.id), 1199)
  await go(2)
})

counting('a server that is stopped, and another that is started', async ({ page, server, cell, go, written }) => {
  await server.stop()
  await page.locator('.pill.waiting').waitFor()
  await server.start()
  await go(0)
  await written(bytes(800))
  await page.locator('.pill.live').waitFor()
  await shows(cell, 799)
  await go(1)
  await go(2)
})

scene('a page that is open while the server is away goes on when it is back', async ({ page, server }) => {
  const box = await server.sandbox()
  await goto(page, box.at())
  const answer = page.waitForResponse((one) => one.url().endsWith('/code'))
  const cell = await run(page, "print('before')")
  await cell.says('before')
  await (await answer).finished() // code of which nobody says that it was taken comes back to the editor
  await server.kill()
  await page.locator('.pill.waiting').waitFor()
  await editor(page).press('a') // what was typed stays
  await server.start()
  await page.locator('.pill.live').waitFor()
  assert.equal((await editor(page).innerText()).trim(), 'a')
  await editor(page).press('Backspace')
  await (await run(page, "print('after')")).says('after')
})

scene('a draft outlives a reload', async ({ page, server }) => {
  const box = await server.sandbox()
  await goto(page, box.at())
  await editor(page).focus()
  await page.keyboard.type('half a thought')
  await page.reload()
  await editor(page).getByText('half a thought').waitFor()
})

scene('displays, errors and an open question are there after a reload', async ({ page, server }) => {
  const box = await server.sandbox()
  await goto(page, box.at())
  const shown = await run(page, "from IPython.display import display, clear_output\nh = display('old', display_id='d')\nprint('one')\ndisplay('new', display_id='d', update=True)\n1 / 0")
  await shown.state('error')
  const asks = await run(page, "print('hello', input('who? '))")
  await asks.state('waits for input')
  const before = await shown.outputs.innerText()
  await page.reload()
  const asked = cellOf(page, asks.id)
  await asked.state('waits for input')
  await cellOf(page, shown.id).says('ZeroDivisionError')
  assert.equal(await cellOf(page, shown.id).outputs.innerText(), before)
  assert.match(before, /'new'/)
  await asked.at.getByLabel('who?').fill('Ada')
  await asked.at.getByLabel('who?').press('Enter')
  await asked.says('hello Ada')
})

scene('the code of what waits is known, also after a reload and where another client has sent it', async ({ page, server }) => {
  const box = await server.sandbox()
  const send = async (code) => cellOf(page, (await box.ask('POST', '/code', { code, detach: true })).execution_id)
  await send(`${gates}\ngate(0)`)
  const before = await send("print('before')")
  await goto(page, box.at())
  await before.at.locator('pre.code', { hasText: "print('before')" }).waitFor()
  const meanwhile = await send("print('meanwhile')")
  await meanwhile.at.locator('pre.code', { hasText: "print('meanwhile')" }).waitFor()
  await meanwhile.state('queued')
  await box.write('gate0', '')
  await meanwhile.says('meanwhile')
})

scene('what runs have shown is there, though the screen comes between the histories of two contexts', async ({ page, server }) => {
  const box = await server.sandbox()
  const { context_id } = await box.ask('POST', '/contexts', {})
  const run = await box.code("print('shown')")
  let told, go
  const first = new Promise((resolve) => (told = resolve))
  const held = new Promise((resolve) => (go = resolve))
  await page.route(/\/RunScreen-[^/]*\.js$/, (route) => first.then(() => route.continue()))
  await page.route(new RegExp(`/contexts/${context_id}/history`), async (route) => {
    told()
    await held
    await route.continue()
  })
  await goto(page, box.at())
  const cell = cellOf(page, run.execution_id)
  await cell.state('done')
  go()
  await cell.says('shown')
})
