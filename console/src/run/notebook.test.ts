import { describe, expect, it } from 'vitest';

import type { HistoryEntry, StreamLine } from '../api/types';
import { maxCells, maxOlder, Notebook } from './notebook';

const time = '2026-01-02T15:04:05Z';
const submitted = (id: string, context = 'default'): StreamLine => ({ source: 'timeline', seq: 1, type: 'run_submitted', time, execution_id: id, context });
const event = (id: string, seq: number, type: string, more: Partial<StreamLine> = {}): StreamLine => ({ source: 'execution', id, seq, type, time, ...more });
const entry = (id: string, code: string): HistoryEntry => ({ execution_id: id, execution_count: 1, code, state: 'done', status: 'ok', started_at: time, ended_at: time });

describe('a notebook', () => {
  it('has a cell for each run that the stream tells of', () => {
    const n = new Notebook();
    n.take(submitted('a'));
    n.take(submitted('b', 'other'));
    n.take(event('a', 1, 'stdout', { text: 'x' }));
    expect(n.of('default').map((c) => c.id)).toEqual(['a']);
    expect(n.of('default')[0]?.outputs).toHaveLength(1);
  });

  it('has a run of its own once, whoever tells of it first', () => {
    const n = new Notebook();
    n.take(submitted('a'));
    expect(n.submitted('a', 'default', '1+1').code).toBe('1+1');
    n.submitted('b', 'default', '2');
    n.take(submitted('b'));
    expect(n.of('default').map((c) => c.code)).toEqual(['1+1', '2']);
  });

  it('learns the code of others from the history, and puts what is older before', () => {
    const n = new Notebook();
    n.take(submitted('new'));
    expect(n.restore([entry('old', '1'), entry('new', '2')], 'default')).toEqual(['old']);
    expect(n.of('default').map((c) => [c.id, c.code])).toEqual([['old', '1'], ['new', '2']]);
  });

  it('keeps its order where a history tells of the newest alone', () => {
    const n = new Notebook();
    const at = (i: number) => new Date(i * 1000).toISOString();
    for (let i = 0; i < 5; i++) {
      n.take(submitted(`r${i}`));
      n.take({ ...event(`r${i}`, 1, 'start'), time: at(i) });
    }
    n.take(submitted('queued'));
    n.restore([3, 4].map((i) => ({ ...entry(`r${i}`, ''), started_at: at(i) })), 'default');
    expect(n.of('default').map((c) => c.id)).toEqual(['r0', 'r1', 'r2', 'r3', 'r4', 'queued']);
  });

  it('has older runs where they are asked for', () => {
    const n = new Notebook();
    const all = Array.from({ length: maxOlder + 100 }, (_, i) => ({ ...entry(`r${i}`, ''), started_at: new Date(i * 1000).toISOString() }));
    n.restore(all.slice(-maxCells), 'default');
    expect(n.older(all.slice(-maxCells - 300), 'default').map((c) => c.id)).toEqual(all.slice(-maxCells - 300, -maxCells).map((e) => e.execution_id));
    expect(n.of('default')[0]?.id).toBe(`r${maxOlder + 100 - maxCells - 300}`);
    n.older(all, 'default');
    expect(n.cells.size).toBe(maxOlder);
  });

  it('updates a display in whichever cell of the context it is', () => {
    const n = new Notebook();
    for (const id of ['a', 'b']) n.take(submitted(id));
    n.take(event('a', 1, 'result', { display_id: 'd', data: { 'text/plain': '1' } }));
    const changed = n.take(event('b', 1, 'update', { display_id: 'd', data: { 'text/plain': '2' } }));
    expect(changed.map((c) => c.id)).toEqual(['a']);
    expect(n.take(event('b', 1, 'update', { display_id: 'd', data: { 'text/plain': '2' } }))).toEqual([]);
  });

  it('forgets the oldest that are done, and none that runs', () => {
    const n = new Notebook();
    n.take(submitted('running'));
    for (let i = 0; i < maxCells + 10; i++) {
      n.take(submitted(`r${i}`));
      n.take(event(`r${i}`, 1, 'end', { status: 'ok' }));
    }
    expect(n.cells.size).toBe(maxCells);
    expect(n.cells.has('running')).toBe(true);
    expect(n.dropped).toBe(11);
  });
});
