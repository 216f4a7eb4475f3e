// The code interpreter: runs, contexts, languages, rich results.
import assert from 'node:assert/strict'
import test from 'node:test'
import { Sandbox, box, e2b, named } from './client.mjs'

test('runCode', async () => {
  const execution = await box.runCode("import sys\nprint('out')\nprint('err', file=sys.stderr)\n1 + 1")
  assert.equal(execution.text, '2')
  assert.deepEqual([execution.logs.stdout.join(''), execution.logs.stderr.join('')], ['out\n', 'err\n'])
  assert.equal(execution.error, undefined)
  assert.ok(execution.executionCount >= 1)
})

test('callbacks', async () => {
  const heard = []
  const execution = await box.runCode("import sys\nsys.stdout.write('a')\nsys.stderr.write('b')\ndisplay('c')\n1 / 0", {
    onStdout: (message) => heard.push(message.line),
    onStderr: (message) => heard.push(message.line),
    onResult: (result) => heard.push(result.text),
    onError: (error) => heard.push(error.name),
  })
  assert.deepEqual(heard.sort(), ['ZeroDivisionError', 'a', 'b', 'c'])
  assert.equal(execution.error.value, 'division by zero')
  assert.match(execution.error.traceback, /ZeroDivisionError/)
})

test('any text', async () => {
  for (const text of ['\u0085\u2028\u2029', 'é😀\x1b[1m', '日本語'.repeat(50000)]) {
    const { logs } = await box.runCode(`print(${JSON.stringify(text)}, end='')`)
    assert.ok(logs.stdout.join('') === text)
  }
})

test('envs', async () => {
  const ODD = '\'"\\ \n$(id) ü'
  assert.equal((await box.runCode("import os; print(os.environ['ODD'], end='')", { envs: { ODD } })).logs.stdout.join(''), ODD)
  assert.equal((await box.runCode("import os; 'ODD' in os.environ")).text, 'False')
})

test('timeout', async () => {
  const run = box.runCode('import time\nwhile True: time.sleep(0.1)', { timeoutMs: 1000 })
  await assert.rejects(run, named(e2b.TimeoutError, /timed out/i))
  assert.equal((await box.runCode("'free again'", { timeoutMs: 30_000 })).text, 'free again')
})

test('contexts', async () => {
  const context = await box.createCodeContext({ cwd: '/tmp', language: 'python' })
  assert.deepEqual([context.language, context.cwd], ['python', '/tmp'])
  assert.ok((await box.listCodeContexts()).some(({ id }) => id === context.id))
  assert.equal((await box.runCode('x = 1\nimport os; os.getcwd()', { context })).text, '/tmp')
  await box.restartCodeContext(context)
  assert.equal((await box.runCode('x', { context })).error.name, 'NameError')
  await box.removeCodeContext(context.id)
  await assert.rejects(box.runCode('1', { context }), named(e2b.NotFoundError, /context/i))
  await assert.rejects(box.restartCodeContext(context), named(e2b.NotFoundError, /context/i))
  await assert.rejects(box.createCodeContext({ cwd: '/nowhere' }), named(e2b.SandboxError, /400/))
})

test('languages', async () => {
  assert.equal((await box.runCode('echo $((6 * 7))', { language: 'bash' })).logs.stdout.join(''), '42\n')
  assert.equal((await box.runCode('const y: number = 6; y * 7', { language: 'typescript' })).text, '42')
  await assert.rejects(box.runCode('1', { language: 'klingon' }), named(e2b.SandboxError, /400/))
  const [context] = await box.listCodeContexts()
  await assert.rejects(box.runCode('1', { language: 'python', context }), named(e2b.InvalidArgumentError))
})

test('results of all kinds', async () => {
  const bundle = {
    'text/plain': 'plain', 'text/html': '<b>bold</b>', 'text/markdown': '**bold**', 'image/svg+xml': '<svg></svg>',
    'image/png': 'iVBORw0KGgo=', 'image/jpeg': '/9j/4AAQ', 'application/pdf': 'JVBERi0x', 'text/latex': '$x^2$',
    'application/json': { a: [1, 2] }, 'application/javascript': 'alert(1)', 'application/x-mine': 'mine',
  }
  const { results: [result] } = await box.runCode(`display(${JSON.stringify(bundle)}, raw=True)`)
  assert.deepEqual(
    [result.text, result.html, result.markdown, result.svg, result.png, result.jpeg, result.pdf, result.latex, result.javascript],
    ['text/plain', 'text/html', 'text/markdown', 'image/svg+xml', 'image/png', 'image/jpeg', 'application/pdf', 'text/latex', 'application/javascript'].map((mime) => bundle[mime]),
  )
  assert.deepEqual(result.json, { a: [1, 2] })
  assert.deepEqual(result.raw.extra, { 'application/x-mine': 'mine' }) // this client itself leaves it out of result.extra
})

test('tables and charts', async () => {
  const table = await box.runCode("import pandas as pd\npd.DataFrame({'n': [1, 2], 's': ['a', 'b']})")
  assert.deepEqual(table.results[0].data, { n: [1, 2], s: ['a', 'b'] })
  const chart = await box.runCode("import matplotlib.pyplot as plt\nplt.plot([1, 2, 3], [1, 4, 9], label='squares')\nplt.show()", { timeoutMs: 120_000 })
  assert.equal(chart.results[0].chart.type, 'line')
  assert.deepEqual(chart.results[0].chart.elements, [{ label: 'squares', points: [[1, 1], [2, 4], [3, 9]] }])
  assert.ok(chart.results[0].png)
  assert.ok(Sandbox)
})
