import { describe, expect, it } from 'vitest';

import { Cursor } from './cursor';
import type { Source, StreamLine } from './types';

const time = '2026-01-02T15:04:05Z';
const all = () => true;

function advanced(follows: (source: Source) => boolean, ...lines: Partial<StreamLine>[]): string {
  const c = Cursor.parse('ep_1:5');
  for (const line of lines) c.advance({ source: 'timeline', seq: 0, type: '', time, ...line }, follows);
  return c.toString();
}

describe('a cursor', () => {
  it.each(['0', '7', 'ep_1:7', 'ep_1:7,12:4,exec_a:3'])('is read as it is written: %s', (text) => {
    expect(Cursor.parse(text).toString()).toBe(text);
  });

  it.each(['', 'x', 'ep:-1', '1,2', 'ep:1,a:x'])('is refused: %j', (text) => {
    expect(() => Cursor.parse(text)).toThrow('no cursor');
  });

  it('follows a run from its beginning to its end', () => {
    const began = { seq: 6, type: 'run_submitted', execution_id: 'exec_a' };
    expect(advanced(all, began)).toBe('ep_1:6,exec_a:0');
    const more: Partial<StreamLine> = { source: 'execution', id: 'exec_a', seq: 3, type: 'stdout' };
    expect(advanced(all, began, more)).toBe('ep_1:6,exec_a:3');
    expect(advanced(all, began, more, { source: 'execution', id: 'exec_a', seq: 4, type: 'end' })).toBe('ep_1:6');
  });

  it('does not go back to the beginning of a run that is further on', () => {
    const more: Partial<StreamLine> = { source: 'execution', id: 'exec_a', seq: 3, type: 'stdout' };
    expect(advanced(all, more, { seq: 6, type: 'run_submitted', execution_id: 'exec_a' })).toBe('ep_1:6,exec_a:3');
  });

  it('has no logs that are not followed', () => {
    expect(advanced(() => false, { seq: 6, type: 'run_submitted', execution_id: 'a' }, { seq: 7, type: 'process_started', pid: 9 })).toBe('ep_1:7');
    expect(advanced(all, { seq: 7, type: 'process_started', pid: 9 })).toBe('ep_1:7,9:0');
  });

  it('takes the place that a stream begins with, and no notice of pings', () => {
    expect(advanced(all, { source: 'stream', type: 'hello', cursor: 'ep_2:0' })).toBe('ep_2:0');
    expect(advanced(all, { type: 'ping', seq: 99 })).toBe('ep_1:5');
  });
});
