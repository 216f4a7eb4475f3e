// The Files screen as it is used.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { button, eventually, press } from './act.mjs'
import { goto, house, still } from './page.mjs'

const { scene } = house()

const inside = (name, body) =>
  scene(name, async (scene) => {
    const box = await scene.server.sandbox()
    const { path } = await box.ask('POST', '/files/mkdir', { path: 'work' })
    await goto(scene.page, `${box.at('files')}?path=${encodeURIComponent(path)}`)
    await scene.page.getByText('This directory is empty.').waitFor()
    const list = scene.page.getByRole('listbox')
    await body({ ...scene, box, list, entry: (name) => list.getByRole('option', { name }) })
  })

inside('files go up and come down whole', async ({ page, box, entry }) => {
  const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 31 + (i >> 8)) & 0xff))
  await page.getByLabel('Upload files').setInputFiles([{ name: 'up.bin', mimeType: 'application/octet-stream', buffer: bytes }, { name: 'ü "quoted" <b>.txt', mimeType: 'text/plain', buffer: Buffer.from('odd name\n') }])
  const odd = entry(/ü "quoted" <b>\.txt/)
  await odd.waitFor() // entries move when others come
  await entry(/up\.bin/).click()
  await page.getByText('This is no text. It begins with:').waitFor()
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('region').getByRole('link', { name: 'Download' }).click()])
  assert.ok(readFileSync(await download.path()).equals(bytes), 'the bytes that went up come down')
  await odd.click()
  await page.waitForFunction(() => document.querySelector('textarea')?.value === 'odd name\n')
  assert.equal(await box.read('work/ü "quoted" <b>.txt'), 'odd name\n')
})

inside('what changes inside is seen, and folders lead in and out', async ({ page, box, list, entry }) => {
  await box.code("import os\nos.makedirs('work/deep/er')\nopen('work/deep/er/x.txt', 'w').write('x')")
  await entry(/^deep/).click()
  await entry(/^er/).waitFor()
  await list.focus()
  await page.keyboard.press('Enter')
  await entry(/x\.txt/).waitFor()
  await box.code("open('work/deep/er/y.txt', 'w').write('y')")
  await entry(/y\.txt/).waitFor()
  await box.code("os.remove('work/deep/er/x.txt')")
  await entry(/x\.txt/).waitFor({ state: 'detached' })
  await page.keyboard.press('Backspace')
  await entry(/^er/).waitFor()
})

inside('text is edited, and a change by somebody else is not overwritten unasked', async ({ page, box, entry }) => {
  await box.write('work/note.txt', 'one\n')
  await entry(/note\.txt/).click()
  const area = page.getByLabel('Text of note.txt')
  await area.fill('two\n')
  await area.press('Control+s')
  await button(page, 'Save').waitFor({ state: 'detached' })
  assert.equal(await box.read('work/note.txt'), 'two\n')

  await box.write('work/note.txt', 'theirs, and longer\n')
  await area.fill('mine\n')
  await button(page, 'Save').click()
  await page.getByText('The file was changed by something else').waitFor()
  assert.equal(await box.read('work/note.txt'), 'theirs, and longer\n')
  await button(page, 'Load it again, without what was typed here').click()
  await page.waitForFunction(() => document.querySelector('textarea').value === 'theirs, and longer\n')

  await box.write('work/note.txt', 'theirs once more\n')
  await area.fill('mine\n')
  await button(page, 'Save').click()
  await button(page, 'Overwrite it').click()
  await button(page, 'Overwrite it').waitFor({ state: 'detached' })
  assert.equal(await box.read('work/note.txt'), 'mine\n')
})

inside('new folder, rename, delete and undo', async ({ page, box, list, entry }) => {
  await button(page, 'New folder').click()
  await entry(/^new folder/).waitFor()
  await list.focus()
  await page.keyboard.press('F2')
  await page.getByLabel('New name').fill('plots')
  await page.keyboard.press('Enter')
  await entry(/^plots/).waitFor()
  await still(page, async (clock) => {
    await list.press('Delete')
    await entry(/^plots/).waitFor({ state: 'detached' })
    await press(button(page, 'Undo'))
    await entry(/^plots/).waitFor()
    await list.press('Delete')
    await page.getByText('plots will be deleted.').first().waitFor()
    await clock.fastForward(6000)
    await button(page, 'Undo').waitFor({ state: 'detached' }) // it was not undone
  })
  await entry(/^plots/).waitFor({ state: 'detached' })
  await eventually(async () => (await box.ask('GET', '/files/list?path=work')).entries.length === 0)
})

inside('images are shown, long files in part, and a folder comes as an archive', async ({ page, box, entry }) => {
  await box.write('work/p.svg', '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="10"><rect width="40" height="10"/></svg>')
  await box.write('work/long.txt', 'a line of text\n'.repeat(100_000))
  await entry(/p\.svg/).click()
  await page.waitForFunction(() => document.querySelector('section img')?.naturalWidth === 40)
  await entry(/long\.txt/).click()
  await page.getByText(/^The first 512 KiB of 1\.4 MiB/).waitFor()
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name: 'Download folder' }).click()])
  const tar = readFileSync(await download.path())
  assert.ok(tar.includes('p.svg') && tar.includes('long.txt'))
})
