// The Terminal and Activity screens as they are used.
import assert from 'node:assert/strict'
import { button, cellOf } from './act.mjs'
import { goto, house } from './page.mjs'
import { Wire } from './wire.mjs'

const { scene } = house()
const rows = (page) => page.locator('.xterm-rows')

/** typed types a line into the terminal. */
async function typed(page, line) {
  await page.getByText('Live.', { exact: true }).waitFor()
  await page.locator('.xterm-helper-textarea').focus()
  await page.keyboard.type(line + '\n')
}

scene('a terminal outlives a reload, with its screen', async ({ page, server }) => {
  const box = await server.sandbox()
  await goto(page, box.at('terminal'))
  await page.getByText('There is no terminal.').waitFor()
  await button(page, 'New terminal').click()
  await typed(page, 'kept=here; echo "first-$((6*7))"')
  await rows(page).getByText('first-42').waitFor()
  await page.reload()
  await rows(page).getByText('first-42').waitFor()
  await typed(page, 'echo "second-$kept"')
  await rows(page).getByText('second-here').waitFor()
  await typed(page, 'exit 3')
  await page.getByText('Ended. exit 3').waitFor()
  await rows(page).getByText('second-here').waitFor()
})

scene('a terminal knows its size, and two are apart', async ({ page, server }) => {
  const box = await server.sandbox()
  await goto(page, box.at('terminal'))
  await button(page, 'New terminal').click()
  await typed(page, 'until [ "$(stty size | cut -d" " -f2)" -gt 90 ]; do sleep 0.05; done; echo "wi""de"')
  await rows(page).getByText('wide').waitFor()
  await button(page, 'New terminal').click()
  await page.waitForFunction(() => !document.querySelector('.xterm-rows')?.textContent.includes('wide'))
  await typed(page, 'echo "oth""er"')
  await rows(page).getByText('other').waitFor()
})

scene('where WebSockets are refused the page says so; when they are not any more, or the network is back, it goes on', async ({ page, server }) => {
  const box = await server.sandbox()
  const wire = await Wire.open(server)
  wire.upgrades = false
  try {
    await page.goto((await server.link()).replace(server.url, wire.url))
    await page.getByRole('heading', { name: 'Sandboxes' }).waitFor()
    await goto(page, box.at('terminal'))
    await button(page, 'New terminal').click()
    await page.getByText('No WebSocket can be opened. A proxy in between may refuse them').waitFor()
    wire.upgrades = true
    await typed(page, 'echo "thr""ough"')
    await rows(page).getByText('through').waitFor()
    wire.cut()
    await page.getByText('Connection lost. It is tried again; nothing is lost.').waitFor()
    wire.mend()
    await typed(page, 'echo "ag""ain"')
    await rows(page).getByText('again').waitFor()
    await rows(page).getByText('through').waitFor()
  } finally {
    wire.close()
  }
})

scene('a paste of several lines asks first, and what was written is found', async ({ page, server }) => {
  const box = await server.sandbox()
  await goto(page, box.at('terminal'))
  await button(page, 'New terminal').click()
  await typed(page, 'echo "rea""dy"; cat') // which takes a paste as typing
  await rows(page).getByText('ready').waitFor()
  const paste = () =>
    page.locator('.xterm-helper-textarea').evaluate((node) => {
      const clipboardData = new DataTransfer()
      clipboardData.setData('text/plain', 'one\ntwo\n')
      node.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true }))
    })
  await paste()
  await page.getByText('Paste 2 lines? Each is run at once.').waitFor()
  await button(page, 'Cancel').click()
  await paste()
  await button(page, 'Paste').click()
  await rows(page).getByText('two').nth(1).waitFor() // typed, and written by cat
  assert.equal(await rows(page).getByText('one').count(), 2, 'what was not meant was not pasted')

  await button(page, 'Search').click()
  const wanted = page.getByRole('searchbox', { name: 'Search in the terminal' })
  await wanted.fill('nowhere')
  await wanted.press('Enter')
  await page.getByText('Not found.').waitFor()
  await wanted.fill('ready')
  await wanted.press('Enter')
  await page.getByText('Not found.').waitFor({ state: 'detached' })
  await page.locator('.xterm-selection div').first().waitFor({ state: 'attached' })
})

scene('processes are listed, and take signals', async ({ page, server }) => {
  const box = await server.sandbox()
  await box.ask('POST', '/processes', { cmd: 'exec sleep 10000', background: true })
  await goto(page, box.at('terminal'))
  const row = page.getByRole('row', { name: /sleep 10000/ })
  await row.getByLabel(/Send a signal/).selectOption('SIGTERM')
  await row.getByText('ended by SIGTERM').waitFor()
})

scene('activity tells what happened and what was used', async ({ page, server }) => {
  const box = await server.sandbox()
  const { execution_id } = await box.code("print('for the timeline')")
  await goto(page, box.at('activity'))
  for (const what of ['created', 'context created', 'run submitted', 'run ended']) await page.getByRole('listitem').getByText(what, { exact: true }).first().waitFor()
  await page.locator('figure canvas').nth(3).waitFor() // after the second measurement
  await page.getByLabel('Kind').selectOption('runs')
  await page.getByRole('listitem').getByText('created', { exact: true }).waitFor({ state: 'detached' })
  await page.getByRole('link', { name: execution_id }).first().click()
  await cellOf(page, execution_id).says('for the timeline')
})

scene('what was before comes also where the server cannot be reached at first', async ({ page, server }) => {
  const box = await server.sandbox()
  let tries = 0
  await page.route(/\/timeline\?/, (route) => (tries++ === 0 ? route.abort() : route.continue()))
  await goto(page, box.at('activity'))
  await page.getByRole('listitem').getByText('created', { exact: true }).waitFor()
  assert.equal(tries, 2)
})
