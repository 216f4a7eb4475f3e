// What was typed into the form of a new sandbox, as the API takes it.

import type { NewSandbox } from '../api/types';

export interface Typed {
  template: string;
  timeout: string;
  memory: string;
  cpus: string;
  network: string;
  metadata: string; // a line each: key=value
}

export const untyped: Typed = { template: '', timeout: '', memory: '', cpus: '', network: '', metadata: '' };

/** optionsOf leaves out what was not typed, which is the server's to choose, and also to refuse. */
export function optionsOf(typed: Typed): NewSandbox {
  const o: NewSandbox = {};
  if (typed.template) o.template = typed.template;
  if (typed.timeout) o.timeout = Number(typed.timeout);
  if (typed.memory || typed.cpus) {
    o.limits = { ...(typed.memory && { memory_mb: Number(typed.memory) }), ...(typed.cpus && { cpus: Number(typed.cpus) }) };
  }
  if (typed.network) o.network = { mode: typed.network };
  const pairs = typed.metadata.split('\n').map((line) => line.split(/=(.*)/s)).filter(([key]) => key?.trim());
  if (pairs.length > 0) o.metadata = Object.fromEntries(pairs.map(([key = '', value = '']) => [key.trim(), value.trim()]));
  return o;
}
