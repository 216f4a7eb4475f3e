// What kinds of events a timeline has, for its filter, and what each says.

import type { StreamLine } from '../api/types';

export type Kind = 'runs' | 'contexts' | 'processes' | 'ports' | 'packages' | 'clients' | 'sandbox';
export const kinds: Kind[] = ['runs', 'contexts', 'processes', 'ports', 'packages', 'clients', 'sandbox'];

export function kindOf(type: string): Kind {
  if (type.startsWith('run_')) return 'runs';
  if (type.startsWith('context_') || type === 'kernel_died') return 'contexts';
  if (type.startsWith('process_')) return 'processes';
  if (type.startsWith('port_')) return 'ports';
  if (type === 'packages_changed') return 'packages';
  if (type.startsWith('client_')) return 'clients';
  return 'sandbox';
}

/** details are the fields that an event has beside its number, type and time, as pairs. */
export function details(line: StreamLine): [string, string][] {
  const pairs: [string, string][] = [];
  for (const [name, value] of Object.entries(line)) {
    if (['seq', 'type', 'time', 'source'].includes(name) || value === undefined) continue;
    pairs.push([name, typeof value === 'string' ? value.slice(0, 500) : JSON.stringify(value).slice(0, 500)]);
  }
  return pairs;
}
