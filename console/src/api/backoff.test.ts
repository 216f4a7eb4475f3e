import { expect, it } from 'vitest';

import { Backoff } from './backoff';

it('waits longer each time, up to ten seconds, and begins anew after a reset', () => {
  const backoff = new Backoff();
  const most = Array.from({ length: 8 }, () => backoff.next(() => 1));
  expect(most).toEqual([250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
  expect(backoff.next(() => 0)).toBe(5000);
  backoff.reset();
  expect(backoff.next(() => 1)).toBe(250);
});
