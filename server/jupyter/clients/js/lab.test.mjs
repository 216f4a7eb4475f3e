// JupyterLab in a headless browser runs a notebook whose kernels a gateway has, as `jupyter lab --gateway-url` has it.
// JUPYTER_SHOTS is a folder that screenshots are left in.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { after, before } from 'node:test'
import { installed } from './client.mjs'

const { chromium } = await installed('playwright-core')
const { JUPYTER_URL, JUPYTER_TOKEN, JUPYTER_PYTHON, JUPYTER_SHOTS } = process.env

const CELLS = {
  prints: "import sys\nprint('out of the sandbox')\nprint('err', file=sys.stderr)\n6 * 7",
  plot: 'import matplotlib.pyplot as plt\nplt.plot([1, 3, 2]); plt.title("a plot")\nplt.show()',
  slider: 'import ipywidgets\n@ipywidgets.interact(n=ipywidgets.IntSlider(value=5))\ndef square(n): print(n, "squared is", n * n)',
  input: "name = input('who? ')\nprint('hello', name)",
  interrupted: "import time\nprint('up', flush=True)\nwhile True: time.sleep(0.1)",
  restarted: "print('name' in globals())",
}
const NUMBER = Object.fromEntries(Object.keys(CELLS).map((name, i) => [name, i]))

let root, lab, browser, page

before(async () => {
  root = mkdtempSync(join(tmpdir(), 'k2lab-'))
  const cells = Object.entries(CELLS).map(([id, source]) => ({ id, source, cell_type: 'code', metadata: {}, outputs: [], execution_count: null }))
  const kernelspec = { name: 'python3', display_name: 'Python 3', language: 'python' }
  writeFileSync(join(root, 'a.ipynb'), JSON.stringify({ cells, metadata: { kernelspec }, nbformat: 4, nbformat_minor: 5 }))
  const port = await free()
  const options = ['--allow-root', '--no-browser', `--port=${port}`, '--IdentityProvider.token=lab', `--gateway-url=${JUPYTER_URL}`]
  lab = spawn(JUPYTER_PYTHON, ['-m', 'jupyterlab', ...options, `--ServerApp.root_dir=${root}`, '--LabApp.news_url='], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, JUPYTER_GATEWAY_AUTH_TOKEN: JUPYTER_TOKEN, JUPYTER_PORT_RETRIES: '0' },
  })
  while (!(await fetch(`http://127.0.0.1:${port}/api`).catch(() => null))?.ok) {
    assert.equal(lab.exitCode, null, 'JupyterLab ended')
    await new Promise((done) => setTimeout(done, 100))
  }
  const executablePath = process.env.JUPYTER_CHROMIUM ?? '/usr/bin/chromium'
  browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-dev-shm-usage'] })
  page = await browser.newPage({ viewport: { width: 1100, height: 1500 } })
  page.setDefaultTimeout(60_000)
  page.on('console', (message) => message.type() === 'error' && console.error(message.text()))
  await page.goto(`http://127.0.0.1:${port}/lab/tree/a.ipynb?token=lab`)
  await idle()
})

process.on('SIGTERM', () => process.exit(1)) // of a test that took too long
process.on('exit', () => lab?.kill())

after(async () => {
  await shoot('end')
  await browser?.close()
  if (lab?.exitCode === null) {
    lab.kill('SIGTERM')
    await once(lab, 'exit')
  }
  rmSync(root, { recursive: true })
})

// free is a port that nothing listens on.
async function free() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  return port
}

// idle waits until the status bar says so: the notebook itself is also called idle before it has a kernel.
const idle = () => page.getByText('Python 3 (ipykernel) | Idle').waitFor()
const cell = (name) => page.locator('.jp-Notebook .jp-Cell').nth(NUMBER[name])
const output = (name) => cell(name).locator('.jp-OutputArea-output')

// run has a cell run as a person would.
async function run(name) {
  await cell(name).locator('.cm-content').click()
  await page.keyboard.press('Shift+Enter')
}

async function shoot(name) {
  if (JUPYTER_SHOTS) await page?.screenshot({ path: join(JUPYTER_SHOTS, `${name}.png`) })
}

test('prints', async () => {
  await run('prints')
  await output('prints').getByText('42').waitFor()
  const said = (await output('prints').allInnerTexts()).map((text) => text.trim())
  assert.deepEqual(said.sort(), ['42', 'err', 'out of the sandbox'])
})

test('a plot', async () => {
  await run('plot')
  const image = cell('plot').locator('.jp-RenderedImage img')
  await image.waitFor()
  assert.ok((await image.evaluate((img) => img.decode().then(() => img.naturalWidth))) > 100)
})

test('a widget slider', async () => {
  await run('slider')
  await cell('slider').getByText('5 squared is 25').waitFor()
  await cell('slider').locator('.noUi-handle').focus()
  for (let i = 0; i < 3; i++) await page.keyboard.press('ArrowRight')
  await cell('slider').getByText('8 squared is 64').waitFor()
})

test('input', async () => {
  await run('input')
  await cell('input').locator('.jp-Stdin-input').fill('Ada')
  await shoot('input')
  await page.keyboard.press('Enter')
  await cell('input').getByText('hello Ada').waitFor()
})

test('an interrupt', async () => {
  await run('interrupted')
  await output('interrupted').getByText('up').waitFor()
  await page.locator('[data-command="notebook:interrupt-kernel"]').first().click()
  await cell('interrupted').getByText('KeyboardInterrupt').first().waitFor()
  await idle()
  await shoot('interrupted')
})

test('a restart', async () => {
  await page.locator('[data-command="notebook:restart-kernel"]').first().click()
  await page.locator('.jp-Dialog .jp-mod-accept').click()
  await page.locator('.jp-Dialog').waitFor({ state: 'detached' })
  await idle()
  await run('restarted')
  await output('restarted').getByText('False').waitFor()
  await shoot('restarted')
})

test('the notebook is saved with its outputs', async () => {
  await page.keyboard.press('Control+s')
  await page.getByText('Saving completed').waitFor()
  const { cells } = JSON.parse(readFileSync(join(root, 'a.ipynb')))
  assert.ok(cells[NUMBER.plot].outputs.some(({ data }) => data?.['image/png']))
  assert.deepEqual(cells[NUMBER.restarted].outputs.map(({ text }) => text.join('')), ['False\n'])
})
