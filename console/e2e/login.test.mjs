// Who may use the page: one-time links, sessions that end, read-only ones, and requests that no page of ours makes.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { join } from 'node:path'
import test from 'node:test'
import { button, cellOf, editor, run } from './act.mjs'
import { goto, house } from './page.mjs'
import { Server } from './server.mjs'

const h = house()

h.scene('a link logs in once, and leaves no trace of its token', async ({ page, tab, server }) => {
  const link = await server.printed()
  assert.match(link, /^http:\/\/127\.0\.0\.1:\d+\/console\/#t=\w+$/)
  const token = link.split('#t=')[1]
  const first = await h.tab()
  await first.page.goto(link)
  await first.page.getByRole('heading', { name: 'Sandboxes' }).waitFor()
  assert.ok(!first.page.url().includes(token))
  await first.page.goBack().catch(() => undefined)
  assert.ok(!first.page.url().includes(token), 'the history has it not')
  const cookies = await first.context.cookies()
  assert.deepEqual(cookies.map(({ httpOnly, sameSite, path }) => ({ httpOnly, sameSite, path })), [{ httpOnly: true, sameSite: 'Strict', path: '/' }])
  const stored = await tab.context.storageState()
  assert.ok(!JSON.stringify(stored).includes(server.key), 'no API key is in the browser')
  assert.equal(await page.evaluate(() => document.cookie), '')
  assert.deepEqual(first.faults, [])
  await first.context.close()

  const second = await h.tab()
  await second.page.goto(link)
  await second.page.getByRole('heading', { name: 'Log in' }).waitFor()
  await second.page.getByRole('alert').getByText(/The link was not taken/).waitFor()
  assert.deepEqual(await second.context.cookies(), [])
  assert.deepEqual(second.faults, [])
  await second.context.close()
})

h.scene('who has no session is told how to get one', async () => {
  const tab = await h.tab()
  await tab.page.goto(h.server.url + '/')
  await tab.page.getByRole('heading', { name: 'Log in' }).waitFor()
  await tab.page.getByText('k2sandbox console').waitFor()
  assert.match(tab.page.url(), /\/console\/$/)
  assert.deepEqual(tab.faults, [])
  await tab.context.close()
})

h.scene('a session outlives the server, until it has expired', async ({ page, server }) => {
  const box = await server.sandbox()
  await goto(page, box.at())
  await (await run(page, "print('mine')")).says('mine')
  await server.kill()
  const expired = Object.fromEntries(Object.entries(server.sessions()).map(([hash, one]) => [hash, { ...one, expires: '2020-01-01T00:00:00Z' }]))
  await server.start()
  await page.reload()
  await page.getByText('mine', { exact: true }).waitFor()
  await goto(page, box.at('terminal'))
  await button(page, 'New terminal').click()
  await page.getByText('Live.', { exact: true }).waitFor()
  await server.kill()
  writeFileSync(join(server.state, 'state', 'console.json'), JSON.stringify(expired))
  await server.start()
  await page.getByRole('alert').getByText(/The login has expired/).first().waitFor() // while it was looked at
  await page.getByText(/^Not attached any more\. The login has expired/).waitFor()
  await page.reload()
  await page.getByRole('heading', { name: 'Log in' }).waitFor()
  await page.goto(await server.link())
  await page.getByRole('heading', { name: 'Sandboxes' }).waitFor()
})

h.scene('a browser is signed out, by itself and by another one', async ({ page, server }) => {
  await goto(page, '#/server')
  const here = page.getByRole('row').filter({ hasText: 'this one' })
  await here.waitFor()
  const there = page.getByRole('row').filter({ has: button(page, 'Sign out') })
  const before = await there.count() // of tests before this one
  const other = await h.enter('#/server')
  await other.page.getByRole('row').filter({ hasText: 'this one' }).waitFor()
  await page.reload()
  await there.nth(before).waitFor()
  await button(there.first(), 'Sign out').click() // the newest
  await there.nth(before).waitFor({ state: 'detached' })
  await other.page.reload()
  await other.page.getByRole('heading', { name: 'Log in' }).waitFor()
  assert.deepEqual(other.faults, [])
  await other.context.close()

  await page.getByRole('paragraph').filter({ hasText: 'You are logged in' }).getByRole('button').click()
  await page.getByRole('heading', { name: 'Log in' }).waitFor()
  assert.deepEqual(await page.context().cookies(), [])
})

/** raw sends what no browser would, and tells the status. */
async function raw(method, path, headers = {}, body = '') {
  const { hostname, port } = new URL(h.server.url)
  const r = request({ hostname, port, method, path, headers: { ...(body ? { 'Content-Type': 'application/json' } : {}), ...headers }, setHost: !headers.Host })
  r.end(body)
  const answer = await Promise.race([once(r, 'response'), once(r, 'upgrade')]).then(([a]) => a)
  answer.destroy()
  return answer.statusCode
}

h.scene('requests of other pages are refused, with the cookie that they would have', async ({ tab, server }) => {
  const box = await server.sandbox()
  const [{ name, value }] = await tab.context.cookies()
  const cookie = { Cookie: `${name}=${value}` }
  const upgrade = { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': 'AAAAAAAAAAAAAAAAAAAAAA==' }
  const own = { Origin: server.url, 'Sec-Fetch-Site': 'same-origin' }
  const { pid } = await box.ask('POST', '/processes', { cmd: 'exec sleep 10000', background: true, pty: { rows: 24, cols: 80 } })
  const code = [`${box.path}/code`, JSON.stringify({ code: '1' })]
  const attach = `${box.path}/processes/${pid}/attach`
  const got = {
    'our own page': await raw('POST', code[0], { ...cookie, ...own }, code[1]),
    'a host that is not ours': await raw('GET', '/v1/sandboxes', { ...cookie, Host: 'evil.example' }),
    'the page by a host that is not ours': await raw('GET', '/console/', { Host: 'evil.example' }),
    'no origin at all': await raw('POST', code[0], { ...cookie, Origin: 'null' }, code[1]),
    'another site': await raw('POST', code[0], { ...cookie, Origin: 'http://evil.example', 'Sec-Fetch-Site': 'cross-site' }, code[1]),
    'another port': await raw('POST', code[0], { ...cookie, Origin: 'http://127.0.0.1:1', 'Sec-Fetch-Site': 'same-site' }, code[1]),
    'an image of another site': await raw('GET', '/v1/sandboxes', { ...cookie, 'Sec-Fetch-Site': 'cross-site', 'Sec-Fetch-Dest': 'image' }),
    'our own WebSocket': await raw('GET', attach, { ...cookie, ...own, ...upgrade }),
    'a WebSocket of another site': await raw('GET', attach, { ...cookie, ...upgrade, Origin: 'http://evil.example' }),
    'a WebSocket of no origin': await raw('GET', attach, { ...cookie, ...upgrade, Origin: 'null' }),
    'a link for whoever has a session': await raw('POST', '/v1/console/links', { ...cookie, ...own }, '{}'),
  }
  assert.deepEqual(got, {
    'our own page': 200,
    'a host that is not ours': 403,
    'the page by a host that is not ours': 403,
    'no origin at all': 403,
    'another site': 403,
    'another port': 403,
    'an image of another site': 403,
    'our own WebSocket': 101,
    'a WebSocket of another site': 403,
    'a WebSocket of no origin': 403,
    'a link for whoever has a session': 401,
  })
})

test('a page on another port of the host cannot use the cookie', async () => {
  const tab = await h.enter()
  const box = await h.server.sandbox()
  const other = await Server.open({ keys: false })
  try {
    const page = await tab.context.newPage()
    await page.route(other.url + '/evil', (route) => route.fulfill({ contentType: 'text/html', body: '<title>evil</title>' }))
    await page.goto(other.url + '/evil')
    const said = await page.evaluate(async (url) => {
      const one = (o) => fetch(url, { credentials: 'include', ...o }).then((a) => a.status || a.type, (e) => e.name)
      return [await one({}), await one({ method: 'POST', body: '{}', headers: { 'Content-Type': 'application/json' } })]
    }, `${h.server.url}/v1/sandboxes`)
    assert.deepEqual(said, ['TypeError', 'TypeError'])
    assert.deepEqual(await h.server.ids(), [box.id])
  } finally {
    await other.close()
    await tab.context.close()
    await h.server.clear([])
  }
})

test('a session that is read-only shows everything and changes nothing', async () => {
  const server = await Server.open({ flags: ['--console-read-only'] })
  const tab = await h.tab()
  const { page } = tab
  try {
    const box = await server.sandbox()
    await box.write('note.txt', 'look\n')
    const { execution_id } = await box.code("print('looked at')")
    await page.goto(await server.link())
    await page.getByText('This session is read-only.').waitFor()
    await page.getByRole('row', { name: new RegExp(box.id) }).waitFor()
    for (const name of ['New sandbox', 'Delete', 'Pause', 'Extend']) assert.equal(await button(page, name).count(), 0, name)
    await goto(page, box.at())
    await cellOf(page, execution_id).says('looked at')
    assert.equal(await editor(page).count(), 0)
    for (const name of ['Run', 'Restart', 'Interrupt', 'Edit again', 'New context']) assert.equal(await button(page, name).count(), 0, name)
    await goto(page, box.at('files'))
    await page.getByRole('option', { name: /note\.txt/ }).click()
    await page.getByRole('region').getByText('look').waitFor()
    assert.equal(await page.getByRole('textbox').count(), 0)
    await goto(page, box.at('terminal'))
    await page.getByText('There is no terminal.').waitFor()
    await box.ask('POST', '/processes', { cmd: 'exec sleep 10000', background: true, pty: { rows: 24, cols: 80 } })
    await page.getByText('A read-only session shows no terminals').waitFor()
    assert.equal(await button(page, 'New terminal').count(), 0)
    const tried = await page.evaluate(async (path) => {
      const post = await fetch(path + '/code', { method: 'POST', body: '{"code":"1"}', headers: { 'Content-Type': 'application/json' } })
      const gone = await fetch(path, { method: 'DELETE' })
      return [post.status, gone.status]
    }, `../v1/sandboxes/${box.id}`)
    assert.deepEqual(tried, [403, 403])
    assert.deepEqual(tab.faults, [])
  } finally {
    await tab.context.close()
    await server.close()
  }
})

test('a server without keys needs no login, and still no other site gets in', async () => {
  const server = await Server.open({ keys: false })
  const tab = await h.tab()
  try {
    await tab.page.goto(server.url)
    await button(tab.page, 'New sandbox').click()
    await (await run(tab.page, "print('open')")).says('open')
    assert.deepEqual(tab.faults, [])
  } finally {
    await tab.context.close()
    await server.close()
  }
})
