import { expect, it } from 'vitest';

import { details, kindOf } from './kinds';

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
