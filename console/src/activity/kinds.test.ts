import { describe, expect, it } from 'vitest';

import type { StreamLine } from '../api/types';
import { details, kindOf, marksOf } from './kinds';

it.each([['run_ended', 'runs'], ['kernel_died', 'contexts'], ['process_started', 'processes'], ['port_opened', 'ports'], ['client_left', 'clients'], ['limit_reached', 'sandbox'], ['something_new', 'sandbox']])(
  '%s is of the kind %s',
  (type, kind) => {
    expect(kindOf(type)).toBe(kind);
  },
);

it('tells what an event has beside its number, type and time', () => {
  const line = { source: 'timeline' as const, seq: 1, type: 'process_ended', time: '', pid: 7, exit_code: 0, cmd: 'x'.repeat(1000) };
  expect(details(line)).toEqual([['pid', '7'], ['exit_code', '0'], ['cmd', 'x'.repeat(500)]]);
});

describe('marks', () => {
  const line = (type: string, more: Partial<StreamLine> = {}): StreamLine => ({ source: 'timeline', seq: 1, type, time: '1970-01-01T00:00:02Z', ...more });

  it('are runs, and what was too much', () => {
    const events = [
      line('created'), line('run_submitted'), line('run_ended', { status: 'ok' }), line('run_ended', { status: 'kernel_died' }), line('kernel_died', { exit: { code: 137, oom: true } }),
      line('limit_reached'), line('process_ended', { exit: { code: 137, oom: true } }), line('port_opened'),
    ];
    expect(marksOf(events)).toEqual([false, true, true, true, true].map((bad) => ({ time: 2, bad })));
  });

  it('are bounded', () => {
    expect(marksOf(Array.from({ length: 10_000 }, () => line('run_submitted'))).length).toBe(500);
  });
});
