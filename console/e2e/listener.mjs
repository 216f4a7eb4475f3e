// A listener on loopback that nobody may reach: it notes whatever it is sent. A connection on which nothing is sent does not count:
// Chromium opens one ahead of a navigation, and closes it when a policy refuses that.
import { once } from 'node:events'
import { createServer } from 'node:net'

const answer = 'HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Type: text/html\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'

export class Listener {
  heard = []

  static async open() {
    const listener = new Listener()
    listener.server = createServer((socket) => {
      socket.on('error', () => undefined)
      socket.once('data', (data) => {
        listener.heard.push(data.toString('latin1').split('\r\n', 1)[0])
        socket.end(answer)
      })
    }).listen(0, '127.0.0.1')
    await once(listener.server, 'listening')
    listener.url = `http://127.0.0.1:${listener.server.address().port}`
    return listener
  }

  close = () => this.server.close()
}
