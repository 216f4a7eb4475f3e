import { expect, it } from 'vitest';

import { bytes, duration, span } from './format';

it.each([[-5, 'now'], [59.9, '59 s'], [60, '1 min'], [7199, '1 h'], [172_800, '2 d']])('%d s are %s', (seconds, want) => {
  expect(span(seconds)).toBe(want);
});

it.each([[0.0001, '<1 ms'], [0.25, '250 ms'], [1.5, '1.50 s'], [59.999, '60.00 s'], [125, '2 min 5 s']])('it took %d s: %s', (seconds, want) => {
  expect(duration(seconds)).toBe(want);
});

it.each([[0, '0 B'], [1023, '1023 B'], [1024, '1.0 KiB'], [1536, '1.5 KiB'], [5 * 2 ** 30, '5.0 GiB']])('%d bytes are %s', (n, want) => {
  expect(bytes(n)).toBe(want);
});
