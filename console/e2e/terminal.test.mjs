// The Terminal and Activity screens as they are used.
import { button, cellOf } from './act.mjs'
import { goto, house } from './page.mjs'

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
