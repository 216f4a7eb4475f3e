// What a person does at a page and sees there.
import assert from 'node:assert/strict'
import { patience } from './page.mjs'

export const editor = (page) => page.getByRole('textbox', { name: 'Code of the next cell' })
export const button = (page, name) => page.getByRole('button', { name, exact: true })

/** press uses a button by its key: output that grows moves what is below the pointer, and a click of the mouse is lost between down and up. */
export const press = (locator) => locator.press('Enter')

export const clipboard = (page) => page.evaluate(() => navigator.clipboard.readText())

/** eventually asks until what is asked for is so. */
export async function eventually(so) {
  const signal = AbortSignal.timeout(patience)
  while (!(await so())) {
    signal.throwIfAborted()
    await new Promise((done) => setTimeout(done, 50)) // between two questions
  }
}

/** run pastes code into the editor, runs it and returns its cell. */
export async function run(page, code) {
  const here = editor(page)
  await here.waitFor()
  const before = await ids(page)
  await here.evaluate((node, text) => {
    const clipboardData = new DataTransfer()
    clipboardData.setData('text/plain', text)
    node.focus()
    node.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true }))
  }, code)
  await here.press('Shift+Enter')
  // Others may run something meanwhile: it is the one that has this code.
  const found = await page.waitForFunction(
    ([known, code]) => {
      const ids = [...document.querySelectorAll('article')].filter((one) => one.querySelector('pre.code').textContent === code).map((one) => one.dataset.run)
      return ids.find((id) => !known.includes(id))
    },
    [before, code],
  )
  return cellOf(page, await found.jsonValue())
}

/** ids are those of the runs that are shown, the oldest first. */
export const ids = (page) => page.locator('article').evaluateAll((all) => all.map((one) => one.dataset.run))

export function cellOf(page, id) {
  const at = page.locator(`article[data-run="${id}"]`)
  return {
    id,
    at,
    outputs: at.locator('.outputs'),
    text: at.locator('.outputs .text'),
    state: async (word) => at.locator('.head').getByText(new RegExp(`(^|\\s)${word}$`)).first().waitFor(),
    says: async (text) => at.locator('.outputs').getByText(text).first().waitFor(),
    /** lines are what stdout shows. */
    lines: async () => (await at.locator('.outputs .stdout').evaluateAll((all) => all.flatMap((one) => [...one.children].flatMap((part) => [...part.children].map((line) => line.textContent))))),
  }
}

/** same has the lines compared so that a difference can be read. */
export function same(got, want) {
  const at = want.findIndex((line, i) => got[i] !== line)
  const around = (lines) => lines.slice(Math.max(at - 2, 0), at + 3)
  if (at >= 0) assert.deepEqual(around(got), around(want), `line ${at} of ${got.length}, of which ${want.length} are wanted`)
  assert.equal(got.length, want.length, `the lines behind: ${got.slice(want.length, want.length + 5)}`)
}

export const numbers = (n, from = 0) => Array.from({ length: n }, (_, i) => String(from + i))

/** gates is Python with which code waits for a file that the test writes. */
export const gates = `import os, time
def gate(n):
    while not os.path.exists(f'gate{n}'): time.sleep(0.02)
`
