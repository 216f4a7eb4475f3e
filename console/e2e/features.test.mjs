// What the console has beside what everybody needs first: figures of plotly, search, older runs, a tree of folders, marks, colours, the output of processes.
import assert from 'node:assert/strict'
import { button, cellOf, editor, ids, run } from './act.mjs'
import { goto, house } from './page.mjs'

const { scene } = house()

/** inside is a scene in a sandbox of its own. */
const inside = (name, body) =>
  scene(name, async (scene) => {
    const box = await scene.server.sandbox()
    await goto(scene.page, box.at())
    await editor(scene.page).waitFor()
    await body({ ...scene, box })
  })

inside('a figure of plotly is drawn in the frame, by the plotly that the sandbox has, and nothing comes from elsewhere', async ({ page, server }) => {
  const elsewhere = []
  page.on('request', (asked) => !asked.url().startsWith(server.url) && elsewhere.push(asked.url()))
  const cell = await run(page, "import plotly.graph_objects as go\ngo.Figure(go.Bar(y=[3, 1, 2]), {'title': {'text': 'A figure'}}).show()")
  await cell.state('done')
  await cell.outputs.scrollIntoViewIfNeeded()
  const figure = cell.outputs.frameLocator('iframe').locator('.js-plotly-plot')
  await figure.locator('.gtitle', { hasText: 'A figure' }).waitFor()
  const heights = await figure.locator('.bars .point path').evaluateAll((all) => all.map((one) => one.getBBox().height))
  assert.deepEqual(heights.map((height) => Math.round(height / Math.min(...heights))), [3, 1, 2])
  assert.deepEqual(elsewhere, [])
})

inside('a long output is searched, also what is on the server alone', async ({ page }) => {
  const cell = await run(page, "for i in range(100_000): print(i, 'Needle' if i % 25_000 == 7 else '')")
  await cell.state('done')
  await button(cell.at, 'Search').click()
  const field = cell.at.getByRole('searchbox')
  await field.fill('needle')
  await field.press('Enter')
  await cell.at.getByText('4 matches', { exact: true }).waitFor()
  const matches = cell.at.getByRole('list', { name: 'Matches' })
  assert.deepEqual(await matches.getByRole('button').allInnerTexts(), [7, 25_007, 50_007, 75_007].map((n) => `${n + 1}\n${n} Needle`))
  const now = cell.at.locator('mark.current')
  await now.waitFor()
  await field.press('Enter')
  await cell.at.locator('pre', { hasText: '25007 Needle' }).waitFor()
  assert.equal(await now.innerText(), 'Needle')
  await button(cell.at, 'Match before').click()
  await button(cell.at, 'Match before').click()
  await cell.at.locator('pre', { hasText: '75007 Needle' }).waitFor()
  await field.fill('nowhere')
  await button(cell.at, 'Find').click()
  await cell.at.getByText('Not found.').waitFor()
  await field.press('Escape')
  await field.waitFor({ state: 'detached' })
})

inside('runs that are too old to be listed come when they are asked for, with what they have shown', async ({ page, box }) => {
  const first = await box.code("print('the first of all')")
  for (let i = 0; i < 120; i++) await box.code(`${i}`)
  await page.reload()
  await editor(page).waitFor()
  await page.getByRole('button', { name: /older runs not shown here/ }).click()
  await button(page, 'Load older runs').click()
  const cell = cellOf(page, first.execution_id)
  await cell.at.scrollIntoViewIfNeeded()
  await cell.says('the first of all')
  const all = await ids(page)
  assert.equal(all[0], first.execution_id)
  assert.equal(new Set(all).size, 121)
  // A link to it leads there at once.
  await goto(page, '#/')
  await page.reload()
  await goto(page, `${box.at()}?run=${first.execution_id}`)
  await cell.says('the first of all')
})

inside('folders are a tree', async ({ page, box }) => {
  await box.code("import os\nos.makedirs('leaves/deep/er')\nos.makedirs('leaves/other')")
  await page.setViewportSize({ width: 1300, height: 780 })
  await goto(page, box.at('files'))
  await page.getByRole('option', { name: /^leaves/ }).waitFor()
  const folders = button(page, 'Folders')
  if ((await folders.getAttribute('aria-pressed')) === 'false') await folders.click()
  const tree = page.getByRole('tree', { name: 'Folders' })
  const item = (name) => tree.getByRole('treeitem', { name, exact: true })
  await item('leaves').click()
  await item('deep').waitFor()
  await page.getByRole('option', { name: /^deep/ }).waitFor()
  assert.deepEqual([await item('leaves').getAttribute('aria-selected'), await item('leaves').getAttribute('aria-expanded'), await item('deep').getAttribute('aria-setsize')], ['true', 'true', '2'])
  await tree.focus()
  await page.keyboard.press('ArrowDown')
  await page.keyboard.press('ArrowRight')
  await item('er').waitFor()
  await page.keyboard.press('ArrowRight')
  await page.keyboard.press('Enter')
  await page.getByText('This directory is empty.').waitFor()
  await page.keyboard.press('ArrowLeft')
  await page.keyboard.press('ArrowLeft')
  await page.keyboard.press('ArrowLeft')
  await item('er').waitFor({ state: 'detached' })
  // It is live where the user is.
  await item('other').click()
  await box.code("os.makedirs('leaves/other/made')")
  await item('made').waitFor()
  await folders.click()
  await tree.waitFor({ state: 'detached' })
})

inside('the code of a run has colours, and stays the text that it is', async ({ page }) => {
  const code = "def f(x):  # why\n    return 'a<b>' if x else 1.5"
  const cell = await run(page, code)
  await cell.state('done')
  assert.equal(await cell.at.locator('.code').innerText(), code)
  assert.deepEqual(await cell.at.locator('.code span').evaluateAll((all) => all.map((one) => `${one.className.split(' ')[0]} ${one.textContent}`)), [
    'keyword def', 'comment # why', 'keyword return', "string 'a<b>'", 'keyword if', 'keyword else', 'number 1.5',
  ])
})

inside('charts tell when runs were', async ({ page, box }) => {
  await box.code('1')
  await goto(page, box.at('activity'))
  await page.locator('figure canvas').nth(3).waitFor()
  await page.getByText('Vertical lines are runs').waitFor()
  const memory = page.getByRole('figure', { name: /^Memory/ }).locator('.u-legend')
  await memory.getByText(/^\d[\d.]* [KMG]iB$/).first().waitFor() // the newest, where nothing is pointed at
  assert.doesNotMatch(await memory.innerText(), /--/)
})

inside('the output of a process is followed', async ({ page, box }) => {
  const { pid } = await box.ask('POST', '/processes', { cmd: "echo begun; echo '\\033[31mred\\033[0m' >&2; while ! [ -e go ]; do sleep 0.05; done; seq 5000; echo over", background: true })
  await goto(page, box.at('terminal'))
  await button(page, `Output of process ${pid}`).click()
  const output = page.getByRole('region', { name: `Output of process ${pid}` })
  await output.getByText('begun', { exact: true }).waitFor()
  assert.equal(await output.locator('span', { hasText: 'red' }).evaluate((node) => node.style.color), 'var(--ansi-1)')
  await box.write('go', '')
  await output.getByText('over', { exact: true }).waitFor()
  await output.getByText('Ended.').waitFor()
  await output.getByText(/lines hidden/).waitFor()
  await page.waitForFunction(() => {
    const node = document.querySelector('.output')
    return node.scrollTop > 0 && node.scrollTop + node.clientHeight >= node.scrollHeight - 20
  })
  await button(output, 'Close').click()
  await output.waitFor({ state: 'detached' })
})
