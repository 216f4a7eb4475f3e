// For everyone: axe finds nothing on any screen in either theme, and none needs to be scrolled sideways at 320 pixels.
// CONSOLE_SHOTS is a folder that a screenshot of each screen in each theme is left in.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { button, cellOf, editor, run } from './act.mjs'
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
    await cellOf(page, box.broken).says('ZeroDivisionError')
    await page.locator('article img').first().waitFor()
    await page.locator('article .outputs').nth(3).scrollIntoViewIfNeeded()
    await page.locator('article iframe').first().waitFor({ state: 'attached' }) // it is there while it is in sight
    await editor(page).fill('import json\njson.dum')
  },
  questions: async (page, box) => {
    await goto(page, `${box.at()}?ctx=asks`.replace('asks', box.asks))
    await page.getByLabel('who? ').waitFor()
    await page.getByText('queued').waitFor()
    await page.locator('pre.code', { hasText: "print('later')" }).waitFor()
    await button(page, 'Variables').click()
  },
  notebook: async (page, box) => {
    await goto(page, `${box.at()}?nb=${encodeURIComponent(box.cwd + '/sums.ipynb')}`)
    const there = page.getByRole('region', { name: 'Notebook sums.ipynb' })
    await there.frameLocator('iframe').getByRole('heading', { name: 'Sums' }).waitFor()
    await there.getByText('Output as it was saved').click()
    await there.getByText('45', { exact: true }).waitFor()
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

const sums = {
  nbformat: 4,
  nbformat_minor: 5,
  metadata: {},
  cells: [
    { cell_type: 'markdown', id: 'a', metadata: {}, source: '# Sums\n\nof all numbers below $n$' },
    { cell_type: 'code', id: 'b', metadata: {}, execution_count: 1, source: 'sum(range(10))', outputs: [{ output_type: 'execute_result', execution_count: 1, metadata: {}, data: { 'text/plain': '45' } }] },
  ],
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
  const broken = await run(page, 'def broken(): return 1 / 0\nbroken()')
  await broken.state('error')
  box.broken = broken.id
  box.asks = (await box.ask('POST', '/contexts', {})).context_id
  await box.ask('POST', '/code', { code: "input('who? ')", context: box.asks, allow_stdin: true, detach: true })
  await box.ask('POST', '/code', { code: "print('later')", context: box.asks, detach: true })
  await box.write('note.txt', 'one\ntwo\n')
  box.cwd = (await box.ask('GET', '')).cwd
  await box.write('sums.ipynb', JSON.stringify(sums))
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

h.scene('a screen reader is told of the end of a run, once, and not of what it writes', async ({ page, server }) => {
  await goto(page, (await server.sandbox()).at())
  await editor(page).waitFor()
  await page.evaluate(() => {
    const line = document.querySelector('[role=status]')
    globalThis.told = []
    new MutationObserver(() => told.push(line.textContent)).observe(line, { childList: true, characterData: true, subtree: true })
  })
  const cell = await run(page, 'for i in range(5000): print(i)')
  await cell.state('done')
  await page.waitForFunction(() => told.length > 0)
  assert.deepEqual(await page.evaluate(() => told), ['Run 1 finished: done.'])
  assert.equal(await cell.outputs.evaluate((node) => node.closest('[aria-live], [role=log], [role=status], [role=alert]')), null)
})

for (const theme of ['light', 'dark']) {
  h.scene(`all 16 colours of ANSI can be read, ${theme}`, { context: { colorScheme: theme } }, async ({ page }) => {
    const contrasts = await page.evaluate(() => {
      const style = getComputedStyle(document.documentElement)
      const luminance = (token) => {
        const [, digits] = style.getPropertyValue(token).trim().match(/^#([0-9a-f]{3}|[0-9a-f]{6})$/i)
        const channels = digits.match(digits.length === 3 ? /./g : /../g).map((hex) => parseInt(hex.padStart(2, hex), 16) / 255)
        const [r, g, b] = channels.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        return 0.2126 * r + 0.7152 * g + 0.0722 * b
      }
      return Array.from({ length: 16 }, (_, i) => {
        const [dark, light] = [luminance('--ground'), luminance(`--ansi-${i}`)].sort((a, b) => a - b)
        return (light + 0.05) / (dark + 0.05)
      })
    })
    assert.deepEqual(contrasts.map((c) => c >= 4.5), contrasts.map(() => true), contrasts.join())
  })
}

h.scene('what is shown follows the theme of the system', { context: { colorScheme: 'light' } }, async ({ page }) => {
  await ready.terminal(page, box)
  const red = (colour) =>
    page.waitForFunction((colour) => [...document.querySelectorAll('.xterm-rows span')].some((node) => node.textContent === 'colours' && getComputedStyle(node).color === colour), colour)
  await red('rgb(179, 38, 30)')
  await page.emulateMedia({ colorScheme: 'dark' })
  await red('rgb(255, 138, 128)')
})

h.scene('axe finds what is wrong, or it proves nothing', async ({ page }) => {
  await page.evaluate(() => document.querySelector('main').append(document.createElement('button')))
  assert.match((await examined(page)).join(), /button-name/)
})

h.scene('axe finds nothing in the list of sandboxes before it is known what they use', async ({ page }) => {
  await page.route(/\/metrics/, () => undefined) // which is never answered
  await page.reload()
  await ready.sandboxes(page, box)
  assert.deepEqual(await examined(page), [])
})

for (const [name, get] of Object.entries(ready)) {
  for (const theme of ['light', 'dark']) {
    h.scene(`${name}, ${theme}`, { context: { colorScheme: theme, reducedMotion: 'reduce', viewport: { width: 1000, height: 640 } } }, async ({ page }) => {
      await get(page, box)
      assert.deepEqual(await examined(page), [])
      assert.equal(await page.evaluate(() => document.getAnimations().filter((one) => one.playState === 'running').length), 0, 'what moves')
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
