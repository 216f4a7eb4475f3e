// The list of sandboxes, the way there, and what a page says of one that is no more.
import assert from 'node:assert/strict'
import { button, clipboard, editor, eventually, press, run } from './act.mjs'
import { goto, house, still } from './page.mjs'

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

  await row(blue).waitFor() // rows move when others come
  await button(row(blue), 'Pause').click()
  await row(blue).getByText('paused').waitFor()
  await button(row(blue), 'Resume').click()
  await row(blue).getByText('running').waitFor()
  const extended = page.waitForResponse(/\/timeout$/)
  await button(row(blue), 'Extend').click()
  assert.equal((await extended).status(), 200)
  await row(red).locator('svg path[d^=M]').waitFor({ state: 'attached' }) // what it uses

  await still(page, async (clock) => {
    await button(row(blue), 'Delete').click()
    await row(blue).waitFor({ state: 'detached' })
    await press(button(page, 'Undo'))
    await row(blue).waitFor()
    await button(row(blue), 'Delete').click()
    await row(blue).waitFor({ state: 'detached' })
    await clock.fastForward(6000)
    await button(page, 'Undo').waitFor({ state: 'detached' })
  })
  await eventually(async () => !(await server.ids()).includes(blue.id))
  await row(red).waitFor()
})

scene('everything is reached by keys', async ({ page, server }) => {
  const box = await server.sandbox()
  await goto(page, box.at())
  await editor(page).waitFor()
  await page.locator('#main').focus()
  await still(page, async () => {
    for (const [keys, screen] of [['gf', 'files'], ['gt', 'terminal'], ['ga', 'activity'], ['gr', 'run']]) {
      await page.keyboard.type(keys)
      await page.waitForURL(new RegExp(`/${screen}$`))
      await page.locator(`nav a[aria-current="page"]`, { hasText: new RegExp(screen, 'i') }).waitFor()
    }
  })
  await page.keyboard.press('Control+k')
  await page.getByRole('combobox', { name: 'Commands' }).fill('dark theme')
  await page.keyboard.press('Enter')
  await page.waitForFunction(() => document.documentElement.dataset.theme === 'dark')
  await page.reload()
  await page.waitForFunction(() => document.documentElement.dataset.theme === 'dark')
  await still(page, async () => {
    await editor(page).press('Escape')
    await page.keyboard.press('Tab')
  })
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

scene('one is made with options, which a program can have, too', async ({ page, server }) => {
  await button(page, 'Options').click()
  await page.getByLabel('Seconds without activity until it ends').fill('321')
  await page.getByLabel('Metadata, a line each: key=value').fill('team=green\nnote=a=b')
  for (const [form, has] of [['Python', '321'], ['curl', '321'], ['Go', '321'], ['MCP', 'mcpServers']]) {
    await page.getByLabel('The same from a program').selectOption(form)
    await page.locator('.program pre', { hasText: has }).waitFor()
  }
  await button(page, 'Create with these').click()
  await editor(page).waitFor()
  const [id] = await server.ids()
  assert.match(page.url(), new RegExp(`#/sb/${id}/run`))
  const { timeout, metadata } = await server.ask('GET', `/v1/sandboxes/${id}`)
  assert.deepEqual({ timeout, metadata }, { timeout: 321, metadata: { team: 'green', note: 'a=b' } })
})

scene('many are deleted at once, when their number is typed', async ({ page, server }) => {
  const kept = await server.sandbox()
  const boxes = await Promise.all(Array.from({ length: 6 }, () => server.sandbox({ many: 'yes' })))
  for (const { id } of boxes) await page.getByLabel(`Select ${id}`).waitFor()
  for (const { id } of boxes) await page.getByLabel(`Select ${id}`).check()
  await page.getByText('6 sandboxes selected').waitFor()
  assert.ok(await button(page, 'Delete those').isDisabled())
  await page.getByLabel(/^Type 6 to delete/).fill('6')
  await still(page, async (clock) => {
    await button(page, 'Delete those').click()
    await page.getByText('6 sandboxes will be deleted.').first().waitFor()
    await clock.fastForward(6000)
    await button(page, 'Undo').waitFor({ state: 'detached' })
  })
  await eventually(async () => (await server.ids()).length === 1)
  assert.deepEqual(await server.ids(), [kept.id])
})

scene('a create that is refused says why, and by which request', async ({ page }) => {
  const error = { code: 'limit_reached', message: 'there are 1000 sandboxes, which is the most at a time' }
  await page.route(/\/v1\/sandboxes$/, (route) => route.fulfill({ status: 429, headers: { 'X-Request-Id': 'req_told' }, json: { error } }))
  await button(page, 'New sandbox').click()
  const told = page.getByRole('alert')
  for (const text of [error.code, error.message, 'req_told']) await told.getByText(text).waitFor()
  await button(told, 'Copy').click()
  assert.equal(await clipboard(page), [error.code, error.message, 'req_told'].join('\n'))
  await page.unroute(/\/v1\/sandboxes$/)
  await button(page, 'New sandbox').click()
  await editor(page).waitFor()
})

scene('a sandbox that never was', async ({ page }) => {
  await goto(page, '#/sb/sb_nobody/run')
  await page.getByRole('alert').getByText(/There is no sandbox sb_nobody here/).waitFor()
  assert.equal(await page.getByRole('navigation', { name: 'Screens of this sandbox' }).count(), 0)
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
