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

/** Mark is a moment that a chart shows, in seconds since 1970. */
export interface Mark {
  time: number;
  bad: boolean; // something was too much, or died
}

const maxMarks = 500;

/** marksOf are the moments at which runs began, and at which something went wrong; of too many the newest. */
export function marksOf(events: StreamLine[]): Mark[] {
  const marks: Mark[] = [];
  for (const { type, time, status, exit } of events) {
    const bad = type === 'kernel_died' || type === 'limit_reached' || exit?.oom === true || (type === 'run_ended' && status === 'kernel_died');
    if (bad || type === 'run_submitted') marks.push({ time: Date.parse(time) / 1000, bad });
  }
  return marks.slice(-maxMarks);
}
