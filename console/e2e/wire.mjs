// A wire between a browser and a server, which can be cut, go silent as one does that nobody notices, or refuse WebSockets as some proxies do.
import { once } from 'node:events'
import { connect, createServer } from 'node:net'

const refusal = 'HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'

export class Wire {
  pairs = new Set()
  state = 'whole'
  upgrades = true

  static async open(server) {
    const wire = new Wire()
    const { hostname, port } = new URL(server.url)
    wire.front = createServer((near) => wire.join(near, connect(port, hostname))).listen(0, '127.0.0.1')
    await once(wire.front, 'listening')
    wire.url = `http://127.0.0.1:${wire.front.address().port}`
    return wire
  }

  join(near, far) {
    const pair = [near, far]
    this.pairs.add(pair)
    for (const [one, other] of [pair, [far, near]]) {
      one.on('error', () => other.destroy()).on('end', () => other.end())
      one.on('close', () => {
        this.pairs.delete(pair)
        other.end()
      })
    }
    near.on('data', (data) => (this.upgrades || !/^upgrade: websocket\r$/im.test(data) ? far.write(data) : near.end(refusal)))
    far.on('data', (data) => near.write(data))
    if (this.state === 'cut') for (const one of pair) one.destroy()
    if (this.state === 'silent') for (const one of pair) one.pause()
  }

  cut() {
    this.state = 'cut'
    for (const pair of this.pairs) for (const one of pair) one.destroy()
  }

  silence() {
    this.state = 'silent'
    for (const pair of this.pairs) for (const one of pair) one.pause()
  }

  mend() {
    this.state = 'whole'
    for (const pair of this.pairs) for (const one of pair) one.resume()
  }

  close() {
    this.cut()
    this.front.close()
  }
}
