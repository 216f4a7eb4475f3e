// The list of sandboxes, the way there, and what a page says of one that is no more.
import assert from 'node:assert/strict'
import { button, editor, run } from './act.mjs'
import { goto, house } from './page.mjs'

const { scene } = house()

scene('the list is live: made, filtered, paused, resumed, extended, deleted and not', async ({ page, server }) => {
  await page.getByText('There is no sandbox yet.').waitFor()
  const red = await server.sandbox({ team: 'red' })
  const blue = await server.sandbox({ team: 'blue' })
  const row = (box) => page.getByRole('row', { name: new RegExp(box.id) })
  await row(red).waitFor()
  await row(blue).waitFor()

  await page.keyboard.press('/')
  await page.keyboard.type('team:red state:running')
  await row(blue).waitFor({ state: 'detached' })
  await row(red).waitFor()
  assert.match(page.url(), /q=team%3Ared/)
  await page.getByLabel('Filter').fill('')

  await button(row(blue), 'Pause').click()
  await row(blue).getByText('paused').waitFor()
  await button(row(blue), 'Resume').click()
  await row(blue).getByText('running').waitFor()

  await button(row(blue), 'Delete').click()
  await row(blue).waitFor({ state: 'detached' })
  await button(page, 'Undo').click()
  await row(blue).waitFor()
  await button(row(blue), 'Delete').click()
  await button(page, 'Undo').waitFor({ state: 'detached' })
  await page.waitForFunction(async (path) => [404, 410].includes((await fetch(path)).status), `../v1/sandboxes/${blue.id}`)
  await row(red).waitFor()
})

scene('everything is reached by keys', async ({ page, server }) => {
  const box = await server.sandbox()
  await goto(page, box.at())
  await editor(page).waitFor()
  await page.locator('#main').focus()
  for (const [keys, screen] of [['gf', 'files'], ['gt', 'terminal'], ['ga', 'activity'], ['gr', 'run']]) {
    await page.keyboard.type(keys)
    await page.waitForURL(new RegExp(`/${screen}$`))
    await page.locator(`nav a[aria-current="page"]`, { hasText: new RegExp(screen, 'i') }).waitFor()
  }
  await page.keyboard.press('Control+k')
  await page.getByRole('combobox', { name: 'Commands' }).fill('dark theme')
  await page.keyboard.press('Enter')
  await page.waitForFunction(() => document.documentElement.dataset.theme === 'dark')
  await page.reload()
  await page.waitForFunction(() => document.documentElement.dataset.theme === 'dark')
  await editor(page).focus()
  await page.keyboard.press('Escape')
  await page.keyboard.press('Tab')
  await page.waitForFunction(() => !document.activeElement.closest('.cm-editor'))
})

scene('a sandbox that ends while it is looked at', async ({ page, server }) => {
  const box = await server.sandbox()
  await goto(page, box.at())
  const cell = await run(page, "import time\nprint('up', flush=True)\ntime.sleep(1000)")
  await cell.says('up')
  await box.ask('DELETE', '')
  await page.getByRole('alert').getByText(/has ended/).waitFor()
  await cell.state('sandbox ended')
  await cell.says('up')
})

scene('a sandbox that never was', async ({ page }) => {
  await goto(page, '#/sb/sb_nobody/run')
  await page.getByRole('alert').getByText(/There is no sandbox sb_nobody here/).waitFor()
})

scene('a page whose server is another version by now says so', async ({ page, server, tab }) => {
  const box = await server.sandbox()
  await page.route(/\/assets\/FilesScreen-/, (route) => route.fulfill({ status: 404, json: { error: { code: 'not_found', message: 'gone' } } }))
  await goto(page, box.at('files'))
  await page.getByRole('alert').getByText(/load (the page|it) again|another version/i).waitFor()
  tab.faults = tab.faults.filter((fault) => !/Failed to fetch dynamically imported module/.test(fault))
})

scene('an address that leads nowhere says so', async ({ page }) => {
  await goto(page, '#/nonsense/here')
  await page.getByRole('alert').waitFor()
})
