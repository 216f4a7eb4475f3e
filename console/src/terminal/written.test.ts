import { describe, expect, it } from 'vitest';

import { written } from './written';

const line = { seq: 1, time: '' };

describe('what a process wrote', () => {
  it('is text, or bytes that are none', () => {
    expect(written({ ...line, type: 'stdout', text: 'hé\n' })).toBe('hé\n');
    expect(written({ ...line, type: 'stderr', data: btoa('a\xffb') })).toBe('a\ufffdb');
    expect(written({ ...line, type: 'end', text: 'x' })).toBe('');
  });

  it('says what is not kept', () => {
    expect(written({ ...line, type: 'truncated', bytes: 1234 })).toBe('\n1,234 bytes left out\n');
  });
});
