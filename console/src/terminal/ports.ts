// The servers that listen in a sandbox, as its timeline tells of them.

import type { StreamLine } from '../api/types';

export interface Port {
  port: number;
  pid?: number;
}

/** portsOf are the ports that are open after all events, by number. */
export function portsOf(events: StreamLine[]): Port[] {
  const open = new Map<number, Port>();
  for (const { type, port, pid } of events) {
    if (port === undefined) continue;
    if (type === 'port_opened') open.set(port, { port, pid });
    else if (type === 'port_closed') open.delete(port);
  }
  return [...open.values()].sort((a, b) => a.port - b.port);
}

/**
 * originOf is an address of an origin of its own for a port: browsers take all names below localhost for this machine. Where the page has another name,
 * or the server does not speak the API that knows such names, or asks for a key, it is a path, whose pages are sandboxed.
 */
export function originOf(base: URL, sandbox: string, port: number, o: { named: boolean }): URL {
  const loopback = ['localhost', '127.0.0.1', '[::1]'].includes(base.hostname);
  if (!o.named || !loopback) return new URL(`v1/sandboxes/${encodeURIComponent(sandbox)}/ports/${port}/`, base);
  const url = new URL('/', base);
  url.hostname = `${port}-${sandbox}.localhost`;
  return url;
}
