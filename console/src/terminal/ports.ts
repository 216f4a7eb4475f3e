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

/** pathOf is where a port is without an origin of its own: a path of the API, whose pages are sandboxed. */
export function pathOf(base: URL, sandbox: string, port: number): URL {
  return new URL(`v1/sandboxes/${encodeURIComponent(sandbox)}/ports/${port}/`, base);
}

/**
 * opened has a browser show an address that is not known yet in a tab of its own, which knows nothing of this page. The tab is there first: later
 * it would be taken for a pop-up. It returns the address where the browser has opened none.
 */
export async function opened(find: () => Promise<string>, open: () => Window | null = () => window.open('about:blank', '_blank')): Promise<string> {
  const tab = open();
  if (tab) tab.opener = null;
  try {
    const url = await find();
    if (!tab || tab.closed) return url;
    tab.location.replace(url);
    return '';
  } catch (e) {
    tab?.close();
    throw e;
  }
}
