import { expect, it } from 'vitest';

import { Bounded } from './store';

it('keeps the first and the last, and counts the others', () => {
  const kept = new Bounded<number>(3, 5);
  for (let i = 0; i < 1000; i++) {
    kept.push(i);
    expect(kept.head.length + kept.hidden + kept.tail.length).toBe(i + 1);
  }
  expect(kept.head).toEqual([0, 1, 2]);
  expect(kept.tail).toEqual([995, 996, 997, 998, 999]);
  kept.clear();
  expect([kept.head, kept.tail, kept.hidden]).toEqual([[], [], 0]);
});
