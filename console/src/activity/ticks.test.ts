import { expect, it } from 'vitest';

import { binary, numbers, whole } from './ticks';

it.each([
  [[0, 64, 128].map((n) => n * 2 ** 20), 64 * 2 ** 20, ['0 MiB', '64 MiB', '128 MiB']],
  [[0, 256, 1280].map((n) => n * 2 ** 20), 256 * 2 ** 20, ['0 MiB', '256 MiB', '1280 MiB']],
  [[0, 2 ** 30], 2 ** 30, ['0 GiB', '1 GiB']],
  [[0, 1, 2], 1, ['0 B', '1 B', '2 B']],
])('bytes %j, which are %d apart', (ticks, step, want) => {
  expect(binary.say(ticks, step)).toEqual(want);
});

it('each step of bytes is whole in its unit', () => {
  for (const step of binary.steps) expect(binary.say([3 * step], step)[0]).toMatch(/^\d+ \w+$/);
});

it.each([[[0, 0.5, 1], 0.5, ['0.0', '0.5', '1.0']], [[0, 0.002], 0.002, ['0.000', '0.002']], [[0, 1, 2], 1, ['0', '1', '2']]])('numbers %j, which are %d apart', (ticks, step, want) => {
  expect(numbers.say(ticks, step)).toEqual(want);
});

it('things are counted whole', () => {
  expect(whole.steps.slice(0, 5)).toEqual([1, 2, 5, 10, 20]);
  expect(whole.say([0, 5, 10], 5)).toEqual(['0', '5', '10']);
});

it('each step of numbers is told from the one below', () => {
  for (const step of numbers.steps) expect(Number(numbers.say([step], step)[0])).toBe(step);
});
