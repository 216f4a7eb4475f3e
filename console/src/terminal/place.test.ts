import { expect, it } from 'vitest';

import { Place } from './place';

it('counts the messages behind the start, and behind what was asked for', () => {
  const fresh = new Place(0);
  fresh.binary();
  expect(fresh.after).toBe(2); // the start is number 1, and comes as no message
  const later = new Place(40);
  later.binary();
  expect(later.after).toBe(41);
  later.at(90);
  later.binary();
  expect(later.after).toBe(91);
});
