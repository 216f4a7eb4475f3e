// The published client, as it is, and how it finds the server. JUPYTER_JS is the folder that npm ci installed it into.
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

export const require = createRequire(process.env.JUPYTER_JS + '/')
export const installed = async (name) => {
  const module = await import(pathToFileURL(require.resolve(name)))
  return module.default ?? module
}

export const services = await installed('@jupyterlab/services')
const WebSocket = await installed('ws')
const { PageConfig } = await installed('@jupyterlab/coreutils')
PageConfig.setOption('terminalsAvailable', 'true') // as a page of a server that has them says

// settings are those of a server with Jupyter's API below a URL: nothing but what every embedder of these services gives.
export function settings(url, token) {
  return services.ServerConnection.makeSettings({
    baseUrl: url.replace(/\/?$/, '/'),
    wsUrl: url.replace(/^http/, 'ws').replace(/\/?$/, '/'),
    token,
    appendToken: true,
    WebSocket,
  })
}

// heard is a promise of the first value of a signal that is wanted.
export function heard(signal, wanted) {
  return new Promise((resolve) => {
    const slot = (sender, value) => {
      if (!wanted(value, sender)) return
      signal.disconnect(slot)
      resolve(value)
    }
    signal.connect(slot)
  })
}

// said is all text that a future hears until it is done, and its reply.
export async function finished(future) {
  const said = { text: '', values: [], kinds: [] }
  future.onIOPub = ({ header, content }) => {
    said.kinds.push(header.msg_type)
    if (header.msg_type === 'stream') said.text += content.text
    if (content.data) said.values.push(content.data)
  }
  said.reply = (await future.done).content
  return said
}
