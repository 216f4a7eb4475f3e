// For everyone: axe finds nothing on any screen in either theme, and none needs to be scrolled sideways at 320 pixels.
// CONSOLE_SHOTS is a folder that a screenshot of each screen in each theme is left in.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { button, editor, run } from './act.mjs'
import { goto, house } from './page.mjs'

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const h = house({ prepare })

/** ready is a page with something on it, which a sandbox with something in it gives it. */
const ready = {
  login: async (page) => {
    await page.context().clearCookies()
    await page.reload()
    await page.getByRole('heading', { name: 'Log in' }).waitFor()
  },
  sandboxes: async (page, box) => {
    await page.getByRole('row', { name: new RegExp(box.id) }).waitFor()
  },
  options: async (page) => {
    await button(page, 'Options').click()
    await page.getByLabel('Memory in MiB').waitFor()
  },
  server: async (page) => {
    await goto(page, '#/server')
    await page.getByRole('heading', { name: 'Server' }).waitFor()
    await page.getByText('this one').waitFor()
  },
  keys: async (page) => {
    await page.keyboard.press('?')
    await page.getByText('Run: hide the cell, show it again').waitFor()
  },
  palette: async (page, box) => {
    await goto(page, box.at())
    await editor(page).waitFor()
    await page.keyboard.press('Control+k')
    await page.getByRole('combobox', { name: 'Commands' }).waitFor()
  },
  run: async (page, box) => {
    await goto(page, box.at())
    await page.getByText('ZeroDivisionError').first().waitFor()
    await page.locator('article img').first().waitFor()
    await page.locator('article .outputs').nth(3).scrollIntoViewIfNeeded()
    await page.locator('article iframe').first().waitFor({ state: 'attached' }) // it is there while it is in sight
    await editor(page).fill('import json\njson.dum')
  },
  questions: async (page, box) => {
    await goto(page, `${box.at()}?ctx=asks`.replace('asks', box.asks))
    await page.getByLabel('who? ').waitFor()
    await page.getByText('queued').waitFor()
    await button(page, 'Variables').click()
  },
  files: async (page, box) => {
    await goto(page, box.at('files'))
    await page.getByRole('option', { name: /note\.txt/ }).click()
    await page.getByLabel('Text of note.txt').waitFor()
  },
  terminal: async (page, box) => {
    await goto(page, box.at('terminal'))
    await page.getByText('Live.', { exact: true }).waitFor()
    await page.locator('.xterm-rows').getByText('colours').first().waitFor()
  },
  activity: async (page, box) => {
    await goto(page, box.at('activity'))
    await page.locator('figure canvas').nth(3).waitFor()
  },
  nobody: async (page) => {
    await goto(page, '#/sb/sb_nobody/run')
    await page.getByRole('alert').waitFor()
  },
}

let box

async function prepare(h) {
  box = await h.server.sandbox({ team: 'red' })
  const tab = await h.enter(box.at())
  const { page } = tab
  await (await run(page, "for i in range(3): print('\\x1b[3%dmcolour %d\\x1b[0m \\x1b[9%dmbright\\x1b[0m' % (i + 1, i + 1, i + 1))")).state('done')
  await (await run(page, 'import matplotlib.pyplot as plt\nplt.figure(figsize=(4, 1.5)); plt.plot([1, 3, 2]); plt.show()')).state('done')
  await (await run(page, "import pandas as pd\npd.DataFrame({'n': [3, 1, 2], 'name': ['c', 'a', 'b']})")).state('done')
  await (await run(page, "from IPython.display import HTML\nHTML('<b>bold</b> <script>1</script>')")).state('done')
  await (await run(page, 'def broken(): return 1 / 0\nbroken()')).state('error')
  box.asks = (await box.ask('POST', '/contexts', {})).context_id
  await box.ask('POST', '/code', { code: "input('who? ')", context: box.asks, allow_stdin: true, detach: true })
  await box.ask('POST', '/code', { code: "print('later')", context: box.asks, detach: true })
  await box.write('note.txt', 'one\ntwo\n')
  await box.code("import os\nos.makedirs('folder/deep', exist_ok=True)")
  await goto(page, box.at('terminal'))
  await button(page, 'New terminal').click()
  await page.getByText('Live.', { exact: true }).waitFor()
  await page.locator('.xterm-helper-textarea').focus()
  await page.keyboard.type("printf '\\033[31mcolours\\033[0m\\n'\n")
  await page.locator('.xterm-rows').getByText('colours', { exact: true }).waitFor()
  await tab.context.close()
}

/** examined is what axe finds. */
async function examined(page) {
  await page.evaluate(axe)
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { iframes: false }))
  return violations.map((v) => `${v.id}: ${v.help}\n${v.nodes.map((n) => `  ${n.target} ${n.html.slice(0, 200)}\n    ${n.failureSummary}`).join('\n')}`)
}

h.scene('axe finds what is wrong, or it proves nothing', async ({ page }) => {
  await page.evaluate(() => document.querySelector('main').append(document.createElement('button')))
  assert.match((await examined(page)).join(), /button-name/)
})

for (const [name, get] of Object.entries(ready)) {
  for (const theme of ['light', 'dark']) {
    h.scene(`${name}, ${theme}`, { context: { colorScheme: theme, reducedMotion: 'reduce', viewport: { width: 1000, height: 640 } } }, async ({ page }) => {
      await get(page, box)
      assert.deepEqual(await examined(page), [])
      if (process.env.CONSOLE_SHOTS) await page.screenshot({ path: join(process.env.CONSOLE_SHOTS, `${name}-${theme}.png`) })
    })
  }
  h.scene(`${name}, 320 pixels wide`, { context: { viewport: { width: 320, height: 640 } } }, async ({ page }) => {
    await get(page, box)
    const wide = await page.evaluate(() => {
      const most = document.documentElement.clientWidth
      const out = (node) => node.getBoundingClientRect().right > most + 1 && !node.closest('.scroll, .xterm, .cm-scroller, .list, pre, .unseen, .skip')
      return document.documentElement.scrollWidth <= most ? [] : [...document.querySelectorAll('body *')].filter(out).map((node) => node.outerHTML.slice(0, 150))
    })
    assert.deepEqual(wide, [])
  })
}
