// Files, watched folders, signed addresses, git.
import assert from 'node:assert/strict'
import test from 'node:test'
import { Heard, box, create, e2b, folder, named } from './client.mjs'

const everyByte = Uint8Array.from({ length: 10240 }, (_, i) => i % 256)
const collect = async (stream) => Buffer.concat(await Array.fromAsync(stream))

// Array.fromAsync is of Node 22.
Array.fromAsync ??= async (iterable) => {
  const all = []
  for await (const each of iterable) all.push(each)
  return all
}

test('write, read', async () => {
  const path = await folder('written')
  for (const options of [{}, { useOctetStream: true }, { gzip: true }]) {
    const info = await box.files.write(`${path}/new/é.txt`, 'héllo\n', options)
    assert.deepEqual([info.name, info.path, info.type], ['é.txt', `${path}/new/é.txt`, 'file'])
    assert.equal(await box.files.read(`${path}/new/é.txt`, { gzip: options.gzip }), 'héllo\n')
    for (const data of [everyByte.buffer, new Blob([everyByte]), new Blob([everyByte]).stream()]) {
      await box.files.write(`${path}/b`, data, options)
      assert.deepEqual(await box.files.read(`${path}/b`, { format: 'bytes' }), everyByte)
    }
  }
  assert.equal((await box.files.read(`${path}/b`, { format: 'blob' })).size, everyByte.length)
  assert.deepEqual(await collect(await box.files.read(`${path}/b`, { format: 'stream' })), Buffer.from(everyByte))
  const entries = [{ path: `${path}/d/1`, data: 'one' }, { path: `${path}/d/2`, data: new Blob(['two']) }]
  for (const write of [(it) => box.files.write(it), (it) => box.files.writeFiles(it), (it) => box.files.writeFiles(it, { useOctetStream: true })]) {
    assert.deepEqual((await write(entries)).map((info) => info.path), [`${path}/d/1`, `${path}/d/2`])
  }
  assert.equal(await box.files.read(`${path}/d/2`), 'two')
})

test('metadata', async () => {
  const path = await folder('described')
  assert.deepEqual((await box.files.write(`${path}/m`, 'x', { metadata: { author: 'Ada' } })).metadata, { author: 'Ada' })
  assert.deepEqual((await box.files.getInfo(`${path}/m`)).metadata, { author: 'Ada' })
})

test('list, getInfo, exists, makeDir, rename, remove', async () => {
  const path = await folder('listed')
  assert.ok(await box.files.makeDir(`${path}/a/b`))
  assert.equal(await box.files.makeDir(`${path}/a/b`), false)
  await box.files.write(`${path}/f`, 'four')
  assert.deepEqual((await box.files.list(path)).map(({ name, type }) => [name, type]), [['a', 'dir'], ['f', 'file']])
  assert.deepEqual((await box.files.list(path, { depth: 2 })).map((e) => e.path), [`${path}/a`, `${path}/a/b`, `${path}/f`])
  const info = await box.files.getInfo(`${path}/f`)
  assert.deepEqual([info.size, info.mode, info.permissions, info.owner, info.group], [4, 0o644, '-rw-r--r--', 'user', 'user'])
  assert.ok(info.modifiedTime instanceof Date)
  assert.equal((await box.files.rename(`${path}/f`, `${path}/g`)).path, `${path}/g`)
  assert.deepEqual([await box.files.exists(`${path}/f`), await box.files.exists(`${path}/g`)], [false, true])
  await box.files.remove(`${path}/g`)
  await assert.rejects(box.files.read(`${path}/g`), named(e2b.FileNotFoundError, /does not exist/))
  await assert.rejects(box.files.getInfo(`${path}/g`), named(e2b.FileNotFoundError))
  await assert.rejects(box.files.list(`${path}/g`), named(e2b.FileNotFoundError))
  await assert.rejects(box.files.rename(`${path}/g`, `${path}/h`), named(e2b.FileNotFoundError))
  await assert.rejects(box.files.read(path), named(e2b.InvalidArgumentError))
  await assert.rejects(box.files.list(path, { user: 'nobody-there' }), named(e2b.AuthenticationError))
})

test('watchDir', async () => {
  const path = await folder('watched')
  const heard = new Heard()
  let exits = 0
  const watch = await box.files.watchDir(path, heard.hear, { recursive: true, includeEntry: true, onExit: () => void exits++ })
  const seen = (name, type) => heard.until(() => heard.all.some((event) => event.name === name && event.type === type))
  await box.files.write(`${path}/f`, 'four')
  await seen('f', 'create')
  await seen('f', 'write')
  assert.equal(heard.all.find((event) => event.type === 'write').entry.size, 4)
  await box.files.rename(`${path}/f`, `${path}/g`)
  await seen('f', 'rename')
  await box.files.makeDir(`${path}/sub`)
  await seen('sub', 'create')
  await box.files.write(`${path}/sub/h`, 'x')
  await heard.until(() => heard.all.some((event) => event.name === 'sub/h'))
  await box.files.remove(`${path}/g`)
  await seen('g', 'remove')
  await watch.stop()
  await assert.rejects(box.files.watchDir(`${path}/nothing`, heard.hear), named(e2b.NotFoundError))
})

test('watchDir of a sandbox that is killed', async () => {
  const it = await create()
  const exited = new Promise((exit) => it.files.watchDir('/home/user', () => {}, { onExit: exit }).then(() => it.kill()))
  assert.ok((await exited) instanceof e2b.SandboxError)
})

test('downloadUrl, uploadUrl', async () => {
  const path = (await folder('signed')) + '/a b&ü.txt'
  const up = await fetch(await box.uploadUrl(path, { useSignatureExpiration: 60_000 }), { method: 'POST', body: form('signed') })
  assert.equal(up.status, 200)
  for (const options of [undefined, { useSignatureExpiration: 60_000 }]) {
    assert.equal(await (await fetch(await box.downloadUrl(path, options))).text(), 'signed')
  }
  const late = await fetch(await box.downloadUrl(path, { useSignatureExpiration: -10_000 }))
  assert.deepEqual([late.status, await late.json()], [401, { code: 401, message: 'signature is already expired' }])
})

function form(text) {
  const body = new FormData()
  body.append('file', new Blob([text]), 'x')
  return body
}

test('git', async () => {
  const path = await folder('git')
  const [git, repo, far] = [box.git, `${path}/repo`, `${path}/far.git`]
  await git.configureUser('Ada', 'ada@example.com')
  await git.setConfig('init.defaultBranch', 'main')
  assert.equal(await git.getConfig('user.name'), 'Ada')
  await git.init(repo, { initialBranch: 'main' })
  await git.init(far, { bare: true })
  await box.files.write(`${repo}/f`, 'one\n')
  assert.deepEqual((await git.status(repo)).fileStatus.map((f) => f.name), ['f'])
  await git.add(repo)
  await git.commit(repo, 'first')
  await git.createBranch(repo, 'side')
  await git.checkoutBranch(repo, 'main')
  await git.deleteBranch(repo, 'side', { force: true })
  assert.deepEqual((await git.branches(repo)).branches, ['main'])
  await git.remoteAdd(repo, 'origin', `file://${far}`)
  assert.equal(await git.remoteGet(repo, 'origin'), `file://${far}`)
  await git.push(repo, { remote: 'origin', branch: 'main' })
  await git.pull(repo, { remote: 'origin', branch: 'main' })
  await git.clone(`file://${far}`, { path: `${path}/clone`, branch: 'main' })
  assert.equal(await box.files.read(`${path}/clone/f`), 'one\n')
  await box.files.write(`${repo}/f`, 'two\n')
  await git.reset(repo, { mode: 'mixed', target: 'HEAD' })
  await git.restore(repo, { paths: ['f'] })
  assert.equal(await box.files.read(`${repo}/f`), 'one\n')
  await git.dangerouslyAuthenticate({ username: 'ada', password: 'no-secret', host: 'git.example.com' })
  await box.files.remove('.git-credentials')
  await box.files.remove('.gitconfig')
})
