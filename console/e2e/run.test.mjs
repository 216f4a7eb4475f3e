// The Run screen as it is used: what code shows, asks and does, and what a person does to it.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { button, cellOf, clipboard, editor, eventually, ids, run } from './act.mjs'
import { goto, house } from './page.mjs'

const { scene } = house()

scene('one click makes a sandbox and lands in a cell that runs', async ({ page }) => {
  await button(page, 'New sandbox').click()
  await page.waitForURL(/#\/sb\/[^/]+\/run/)
  await page.waitForFunction(() => document.activeElement?.classList.contains('cm-content'))
  await page.keyboard.type("print('hello', 6 * 7)\n")
  await page.keyboard.press('Shift+Enter')
  await page.locator('article').waitFor()
  const cell = cellOf(page, (await ids(page))[0])
  await cell.says('hello 42')
  await cell.state('done')
  assert.equal(await editor(page).innerText(), '\n', 'the editor is empty again')
  await page.getByText('[1]').waitFor()
})

/** inside is a scene in a sandbox of its own. */
const inside = (name, body) =>
  scene(name, async (scene) => {
    const box = await scene.server.sandbox()
    await goto(scene.page, box.at())
    await editor(scene.page).waitFor()
    await body({ ...scene, box })
  })

inside('text is as a terminal shows it', async ({ page }) => {
  const cell = await run(page, `import sys
for i in range(101): sys.stdout.write(f'\\r{i}%' )
print()
print('\\x1b[31mred\\x1b[0m \\x1b[1mbold\\x1b[0m')
print('a\\b\\bxy')
print('to stderr', file=sys.stderr)`)
  await cell.state('done')
  assert.deepEqual((await cell.lines()).slice(0, 2), ['100%', 'red bold'])
  assert.equal(await cell.text.locator('span', { hasText: 'red' }).evaluate((node) => node.style.color), 'var(--ansi-1)')
  await cell.at.locator('.stderr').getByText('to stderr').waitFor()
})

inside('images, tables, JSON, Markdown and HTML', async ({ page }) => {
  const image = await run(page, `import base64, struct, zlib
from IPython.display import Image, JSON, Markdown, HTML, SVG, display
def chunk(kind, data): return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
png = b'\\x89PNG\\r\\n\\x1a\\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 30, 20, 8, 2, 0, 0, 0)) + chunk(b'IDAT', zlib.compress((b'\\0' + b'\\x20\\x80\\xc0' * 30) * 20)) + chunk(b'IEND', b'')
display(Image(png)); display(SVG('<svg xmlns="http://www.w3.org/2000/svg" width="40" height="10"><rect width="40" height="10"/></svg>'))`)
  await image.state('done')
  const sizes = () => image.outputs.locator('img').evaluateAll((all) => Promise.all(all.map((img) => img.decode().then(() => [img.naturalWidth, img.naturalHeight]))))
  await image.outputs.locator('img').nth(1).waitFor()
  assert.deepEqual(await sizes(), [[30, 20], [40, 10]])

  const table = await run(page, "import pandas as pd\npd.DataFrame({'n': [3, 1, 2], 'name': ['c', 'a', 'b']})")
  const rows = () => table.outputs.locator('tbody tr').allInnerTexts()
  await table.outputs.getByRole('button', { name: /^n$/ }).click()
  assert.deepEqual((await rows()).map((row) => row.split('\t').at(-1)), ['a', 'b', 'c'])

  const json = await run(page, "JSON({'deep': {'er': [1, 2]}})")
  await json.says('"deep"')

  const markdown = await run(page, "Markdown('# A title\\n\\n**bold**')")
  await markdown.outputs.frameLocator('iframe').getByRole('heading', { name: 'A title' }).waitFor()
  const html = await run(page, "HTML('<b id=here>bold <i>and not</i></b><script>document.body.append(\"owned\")</script>')")
  await html.outputs.frameLocator('iframe').locator('#here').waitFor()
  assert.equal(await html.outputs.frameLocator('iframe').locator('body').innerText(), 'bold and not')
})

inside('Vega and formulas are drawn in the frame', async ({ page }) => {
  const vega = await run(page, `from IPython.display import display, Markdown
display({'application/vnd.vegalite.v5+json': {'data': {'values': [{'a': 'A', 'b': 28}, {'a': 'B', 'b': 55}]}, 'mark': 'bar', 'encoding': {'x': {'field': 'a', 'type': 'nominal'}, 'y': {'field': 'b', 'type': 'quantitative'}}}, 'text/plain': 'a chart'}, raw=True)`)
  await vega.state('done')
  await vega.at.scrollIntoViewIfNeeded()
  await vega.outputs.frameLocator('iframe').locator('svg.marks, canvas.marks').waitFor()
  const math = await run(page, "Markdown('a sum $\\\\sum_i x_i$')")
  await math.state('done')
  await math.outputs.scrollIntoViewIfNeeded()
  await math.outputs.frameLocator('iframe').locator('math').waitFor({ state: 'attached' })
})

inside('what is cleared goes, and what is shown anew takes its place', async ({ page }) => {
  const cell = await run(page, `from IPython.display import display, clear_output
print('gone')
clear_output(wait=True)
print('kept')
handle = display('before', display_id=True)
handle.update('after')`)
  await cell.state('done')
  assert.deepEqual(await cell.lines(), ['kept'])
  await cell.says("'after'")
  assert.equal(await cell.outputs.getByText("'before'").count(), 0)
})

inside('plotly draws with the plotly that is inside, and where there is none the page says so', async ({ page, box }) => {
  const figure = "from IPython.display import display\ndisplay({'application/vnd.plotly.v1+json': {'data': [{'y': [1, 2]}]}, 'text/plain': 'Figure'}, raw=True)"
  await box.code(`import os
os.makedirs('plotly/package_data')
open('plotly/__init__.py', 'w').close()`) // which hides what is installed
  const first = await run(page, figure)
  await first.says('The figure needs the sandbox’s own plotly to be drawn')
  await box.code(`open('plotly/package_data/plotly.min.js', 'w').write('globalThis.Plotly = { newPlot: async (root, { data }) => root.append("drawn " + data[0].y) }')`)
  const second = await run(page, figure + ' # again')
  await second.outputs.frameLocator('iframe').getByText('drawn 1,2').waitFor()
})

inside('an error has its traceback, and later cells run', async ({ page }) => {
  const cell = await run(page, 'def broken(): return 1 / 0\nbroken()')
  await cell.state('error')
  await cell.says('ZeroDivisionError')
  await cell.says('broken()')
  await (await run(page, '1 + 1')).says('2')
})

inside('input() and a password are asked for in the cell', async ({ page }) => {
  const cell = await run(page, "name = input('who? ')\nimport getpass\nsecret = getpass.getpass('secret? ')\nprint('hello', name, len(secret))")
  await cell.state('waits for input')
  await cell.at.getByLabel('who?').fill('Ada')
  await cell.at.getByLabel('who?').press('Enter')
  assert.equal(await cell.at.getByLabel('secret?').getAttribute('type'), 'password')
  await cell.at.getByLabel('secret?').fill('hush')
  await button(cell.at, 'Send').click()
  await cell.says('hello Ada 4')
  await cell.state('done')
  assert.ok(!(await cell.at.innerText()).includes('hush'), 'the password is not shown')
})

inside('interrupts by button and by keys', async ({ page }) => {
  const forever = "import time\nprint('up', flush=True)\nwhile True: time.sleep(0.05)"
  const first = await run(page, forever)
  await first.says('up')
  await button(first.at, 'Interrupt').click()
  await first.state('interrupted')

  const second = await run(page, forever)
  await second.says('up')
  await page.getByRole('group', { name: 'Contexts' }).getByText('busy').waitFor()
  await editor(page).press('Control+c')
  await second.state('interrupted')

  const third = await run(page, forever)
  await third.says('up')
  await page.getByRole('group', { name: 'Contexts' }).getByText('busy').waitFor()
  await page.locator('#main').focus()
  await page.keyboard.press('.')
  await third.state('interrupted')
})

inside('what waits says so, and can be cancelled', async ({ page, box }) => {
  const first = await run(page, "import os, time\nwhile not os.path.exists('go'): time.sleep(0.02)")
  await first.state('running')
  const second = await run(page, "print('second')")
  await second.state('queued')
  const third = await run(page, "print('third')")
  await button(second.at, 'Interrupt').click()
  await second.state('cancelled before it ran')
  await box.write('go', '')
  await third.says('third')
})

inside('a run that takes too long says so', async ({ page, box }) => {
  const { execution_id } = await box.ask('POST', '/code', { code: 'import time\nwhile True: time.sleep(0.05)', timeout: 0.5, detach: true })
  await cellOf(page, execution_id).state('timed out')
})

inside('cells by keys', async ({ page }) => {
  const first = await run(page, "print('first')")
  await first.state('done')
  const second = await run(page, "print('second')")
  await second.state('done')
  const focused = (cell) => page.waitForFunction((id) => document.activeElement.dataset.run === id, cell.id)
  await editor(page).press('Escape')
  await focused(second)
  await page.keyboard.press('k')
  await focused(first)
  await page.keyboard.press('ArrowDown')
  await focused(second)
  await page.keyboard.press('c')
  await eventually(async () => (await clipboard(page)) === "print('second')")
  await page.keyboard.type('dd')
  await second.at.waitFor({ state: 'detached' })
  await focused(first)
  await page.keyboard.press('z')
  await second.at.waitFor()
  await page.keyboard.press('Shift+Enter')
  await page.locator('article').nth(2).getByText('first', { exact: true }).waitFor()
  await page.keyboard.press('Enter')
  await page.waitForFunction(() => document.activeElement.classList.contains('cm-content'))
  assert.equal(await editor(page).innerText(), "print('first')")
})

inside('a restart forgets variables and says so', async ({ page }) => {
  await (await run(page, 'x = 41\nprint(x)')).says('41')
  const busy = await run(page, "import time\nprint('up', flush=True)\ntime.sleep(1000)")
  await busy.says('up')
  await button(page, 'Restart').click()
  await busy.at.getByText('The variables of this context are gone.').waitFor()
  const after = await run(page, 'x')
  await after.says('NameError')
})

inside('a kernel that dies says how', async ({ page }) => {
  const cell = await run(page, 'import os\nos._exit(7)')
  await cell.state('kernel died')
  await cell.at.getByText('The kernel exited with status 7.').waitFor()
  await (await run(page, "print('again')")).says('again')
})

inside('completion, inspection and variables', async ({ page }) => {
  await (await run(page, 'import json\nnumber = 1234')).state('done')
  await editor(page).focus()
  await page.keyboard.type('json.dum')
  await page.locator('.cm-tooltip-autocomplete').getByText('dumps', { exact: true }).click()
  await page.waitForFunction(() => document.querySelector('.cm-content').textContent === 'json.dumps')
  await page.keyboard.press('Shift+Tab')
  await page.getByRole('region', { name: 'What is at the cursor' }).getByText('Serialize').first().waitFor()
  await button(page, 'Close').click()
  await button(page, 'Variables').click()
  await page.getByRole('row', { name: /number int .*1234/ }).waitFor()
})

inside('contexts have runs and variables of their own', async ({ page }) => {
  const first = await run(page, "name = 'first'")
  await first.state('done')
  await button(page, 'New context').click()
  await page.getByText('Nothing has run in this context yet.').waitFor()
  await (await run(page, 'name')).says('NameError')
  await button(page, 'Delete context').click()
  await first.state('done') // it is shown again
  await (await run(page, 'name')).says("'first'")
})

inside('a cell as code, and the notebook as a file', async ({ page, box }) => {
  const cell = await run(page, "print('once')")
  await cell.state('done')
  for (const [form, want] of [['Python', 'k2sandbox'], ['curl', 'curl '], ['Go', 'client.']]) {
    await page.evaluate(() => navigator.clipboard.writeText(''))
    await cell.at.getByLabel('Copy as…').selectOption(form)
    await eventually(async () => (await clipboard(page)) !== '')
    const text = await clipboard(page)
    assert.ok(text.includes(want) && text.includes(box.id) && text.includes('once'), `${form}: ${text}`)
  }
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name: 'Download as .ipynb' }).click()])
  const notebook = JSON.parse(readFileSync(await download.path(), 'utf8'))
  assert.equal(notebook.nbformat, 4)
  assert.deepEqual(notebook.cells.map((c) => [[c.source].flat().join(''), [c.outputs[0].text].flat().join('')]), [["print('once')", 'once\n']])
})

inside('a notebook comes in by its file, runs, and is saved with what it shows', async ({ page, box }) => {
  const cells = [
    { cell_type: 'markdown', id: 'a', metadata: {}, source: '# A notebook' },
    { cell_type: 'code', id: 'b', metadata: {}, execution_count: null, outputs: [], source: "print('from the file')" },
  ]
  const buffer = Buffer.from(JSON.stringify({ nbformat: 4, nbformat_minor: 5, metadata: {}, cells }))
  await page.getByLabel('Open .ipynb').setInputFiles({ name: 'in.ipynb', mimeType: 'application/x-ipynb+json', buffer })
  const there = page.getByRole('region', { name: 'Notebook in.ipynb' })
  await there.frameLocator('iframe').getByRole('heading', { name: 'A notebook' }).waitFor()
  await button(there, 'Run all').click()
  await page.locator('article .outputs').getByText('from the file').waitFor()
  await eventually(async () => JSON.parse(await box.read('in.ipynb')).cells[1].outputs[0]?.text.includes('from the file\n'))
  await page.getByLabel('Open .ipynb').setInputFiles({ name: 'none.ipynb', mimeType: 'application/x-ipynb+json', buffer: Buffer.from('{') })
  await page.getByRole('alert').getByText('This is no notebook that can be read:').waitFor()
})

inside('two tabs see the same cells, and a link leads to one', async ({ page, tab, box, server }) => {
  const other = await tab.context.newPage()
  await other.goto(server.url + '/console/' + box.at())
  await editor(other).waitFor()
  const cell = await run(page, "print('seen by both')")
  await cellOf(other, cell.id).says('seen by both')
  await other.close()
  const href = await cell.at.locator('.head > a').getAttribute('href')
  await page.goto('about:blank')
  await page.goto(server.url + '/console/' + href)
  await page.locator('article.linked').getByText('seen by both', { exact: true }).waitFor()
})
