// Servers inside, as they are seen from the console: by links to hosts of their own, without a key in the browser.
import assert from 'node:assert/strict'
import test from 'node:test'
import { button } from './act.mjs'
import { goto, house } from './page.mjs'
import { Server } from './server.mjs'

const { scene, tab: blank } = house()

/** serving starts a server inside, which shows a page that knows itself, and returns its port. */
async function serving(box) {
  await box.write('page.py', `
import base64, hashlib, http.server, socketserver
PAGE = rb"""<!doctype html><title>inside</title><h1>Inside</h1><p id=said></p><script>
(async () => {
  const said = []
  said.push('origin ' + self.origin, 'at ' + location.href, 'referrer [' + document.referrer + ']', 'opener ' + window.opener, 'cookie [' + document.cookie + ']')
  document.cookie = 'mine=1'
  localStorage.kept = 'yes'
  said.push('kept ' + localStorage.kept + ' ' + document.cookie)
  said.push('head ' + await (await fetch('/head')).text())
  await navigator.serviceWorker.register('/sw.js')
  said.push('worker ' + new URL((await navigator.serviceWorker.ready).scope).pathname)
  await new Promise((done, failed) => { const s = new WebSocket('ws://' + location.host + '/ws'); s.onmessage = (e) => { said.push('socket ' + e.data); done() }; s.onerror = () => failed(new Error('no socket')) })
  document.querySelector('#said').innerText = said.join('\\n')
})().catch((e) => (document.querySelector('#said').innerText = 'failed: ' + e))
</script>"""
class Page(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        if self.path == '/ws':
            key = base64.b64encode(hashlib.sha1(self.headers['Sec-WebSocket-Key'].encode() + b'258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest())
            self.wfile.write(b'HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\nSec-WebSocket-Accept: ' + key + b'\\r\\n\\r\\n' + b'\\x81\\x05hello')
            self.wfile.flush()
            self.rfile.read(1)
            self.close_connection = True
            return
        kind, body = {'/head': ('text/plain', repr(self.headers.get_all('Cookie')).encode()), '/sw.js': ('text/javascript', b'')}.get(self.path, ('text/html', PAGE))
        self.send_response(200)
        self.send_header('Content-Type', kind)
        self.send_header('Content-Length', str(len(body)))
        self.send_header('Set-Cookie', 'set=1; Path=/; Domain=localhost')
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *of): pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Page)
print(server.server_port, flush=True)
server.serve_forever()
`)
  const { pid } = await box.ask('POST', '/processes', { cmd: 'exec python page.py', background: true })
  const events = await box.server.send('GET', `${box.path}/processes/${pid}/events`)
  let text = ''
  for await (const part of events.body) {
    text += Buffer.from(part).toString()
    const port = /"type":"stdout".*?"text":"(\d+)\\n"/.exec(text)?.[1] ?? Buffer.from(/"type":"stdout".*?"data":"([^"]+)"/.exec(text)?.[1] ?? '', 'base64').toString().trim()
    if (port) return Number(port)
  }
  assert.fail(text)
}

/** opened clicks on a port and returns the page that it opens, once that has said all. */
async function opened(page, port) {
  const [tab] = await Promise.all([page.context().waitForEvent('page'), page.getByLabel(`Open port ${port}`).click()])
  await tab.locator('#said:not(:empty)').waitFor()
  return tab
}

scene('a port opens in a tab, at an origin of its own, without a key', async ({ page, tab: { faults }, server }) => {
  const box = await server.sandbox()
  const port = await serving(box)
  let tell
  const held = new Promise((resolve) => (tell = resolve))
  await page.route('**/v1/capabilities', (route) => held.then(() => route.continue()))
  await goto(page, box.at('terminal'))
  await page.getByLabel(`Open port ${port}`).and(page.locator(':disabled')).waitFor() // how it opens is not known yet
  tell()
  const tab = await opened(page, port)
  const own = `http://${port}-${box.id}.localhost:${new URL(server.url).port}`
  assert.equal(tab.url(), own + '/')
  const said = await tab.locator('#said').innerText()
  assert.match(said, /^origin http/, said)
  for (const line of [`origin ${own}`, `at ${own}/`, 'referrer []', 'opener null', 'cookie [set=1]', 'kept yes set=1; mine=1', "head ['set=1; mine=1']", 'worker /', 'socket hello']) {
    assert.ok(said.split('\n').includes(line), `${line} is not in\n${said}`)
  }
  const cookies = (await page.context().cookies(own)).filter((one) => one.name.startsWith('k2-'))
  assert.deepEqual(cookies.map((one) => [one.name, one.httpOnly, one.sameSite, one.domain]), [['k2-preview', true, 'Lax', new URL(own).hostname]])
  assert.deepEqual(await page.context().cookies(own.replace(box.id, 'sb_x')), [], 'cookies that a sibling gets')
  // It reaches neither the console nor the API, nor another port.
  const reached = await tab.evaluate(
    async ([api, sibling]) => {
      const tries = {
        read: () => fetch(api + '/v1/sandboxes', { credentials: 'include' }).then((a) => a.status),
        blind: () => fetch(api + '/v1/sandboxes', { method: 'POST', mode: 'no-cors', credentials: 'include', body: '{}' }).then((a) => a.type),
        sibling: () => fetch(sibling, { mode: 'no-cors', credentials: 'include' }).then((a) => a.type),
        host: () => fetch('/v1/sandboxes').then((a) => a.text()).then((text) => (text.includes('<h1>Inside') ? 'inside' : text)),
      }
      const said = {}
      for (const [name, one] of Object.entries(tries)) said[name] = await one().catch((e) => e.name)
      return said
    },
    [server.url, own.replace(port, 1)],
  )
  assert.equal(reached.read, 'TypeError')
  assert.equal(reached.host, 'inside')
  assert.equal((await server.ask('GET', '/v1/sandboxes')).sandboxes.length, 1, 'a sandbox that a page inside has made')
  await tab.reload()
  await tab.locator('#said:not(:empty)').waitFor()
  // A browser that has no link is told so.
  const other = await page.context().browser().newContext()
  const stranger = await other.newPage()
  const answer = await stranger.goto(own)
  assert.equal(answer.status(), 401)
  await stranger.getByText('is shown to who has a link').waitFor()
  await other.close()
  await box.ask('DELETE', '')
  assert.equal((await tab.goto(own)).status(), 410)
  await tab.close()
  faults.splice(0, faults.length, ...faults.filter((fault) => !fault.includes(own))) // of the page inside
})

test('a console at [::1] shows frames, and opens ports', async (t) => {
  const server = await Server.open({ flags: ['--listen', '[::1]:0'] })
  t.after(() => server.close())
  const { page, context } = await blank() // which is patient
  t.after(() => context.close())
  const refused = []
  page.on('console', (m) => m.type() === 'error' && refused.push(m.text()))
  const box = await server.sandbox()
  const port = await serving(box)
  await page.goto(await server.link())
  await page.locator('h1').first().waitFor()
  await goto(page, box.at())
  await box.code("from IPython.display import HTML\nHTML('<b>in a frame</b>')")
  await page.frameLocator('iframe').getByText('in a frame').waitFor()
  await goto(page, box.at('terminal'))
  const tab = await opened(page, port)
  assert.equal(new URL(tab.url()).host, `${port}-${box.id}.localhost:${new URL(server.url).port}`)
  assert.deepEqual(refused, [])
})
