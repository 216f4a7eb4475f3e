// A wire between a browser and a server, which can be cut, or go silent as one does that nobody notices.
import { once } from 'node:events'
import { connect, createServer } from 'node:net'

export class Wire {
  pairs = new Set()
  state = 'whole'

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
    const end = () => {
      this.pairs.delete(pair)
      for (const one of pair) one.destroy()
    }
    for (const one of pair) one.on('error', end).on('close', end)
    if (this.state === 'cut') return end()
    this.pairs.add(pair)
    near.on('data', (data) => far.write(data))
    far.on('data', (data) => near.write(data))
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
