import { expect, it } from 'vitest';

import type { Sandbox } from '../api/types';
import { matches } from './filter';

const box = { sandbox_id: 'sb_abc', template: 'python:3.12', state: 'running', metadata: { User: 'Ada' } } as unknown as Sandbox;

it.each([
  ['', true],
  ['abc', true],
  ['state:running', true],
  ['state:paused', false],
  ['user:ada', true],
  ['user:bob', false],
  ['python:3.12', true],
  ['ada abc', true],
  ['ada xyz', false],
])('filter %j: %s', (filter, want) => {
  expect(matches(box, filter)).toBe(want);
});
