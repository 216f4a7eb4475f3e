import { describe, expect, it } from 'vitest';

import type { Line } from '../api/types';
import { Cell, maxDisplayChars, maxDisplays } from './cell';

const time = '2026-01-02T15:04:05Z';

/** made takes events, numbered from 1, into a new cell. */
function made(...events: Partial<Line>[]): Cell {
  const cell = new Cell('exec_1', 'default');
  events.forEach((e, i) => cell.take({ seq: i + 1, type: '', time, ...e }));
  return cell;
}

/** shown is what a cell shows, short. */
function shown(cell: Cell): string[] {
  return cell.outputs.map((o) => {
    if (o.kind === 'text') return `${o.stream}:${o.screen.text}`;
    if (o.kind === 'display') return `display:${String(o.data['text/plain'])}`;
    if (o.kind === 'error') return `error:${o.name}`;
    return `missing:${o.count}:${o.bytes}`;
  });
}

const result = (text: string, more: Partial<Line> = {}): Partial<Line> => ({ type: 'result', data: { 'text/plain': text }, ...more });

describe('a cell', () => {
  it('goes from queued over running to its end', () => {
    const cell = made();
    expect(cell.state).toBe('queued');
    cell.take({ seq: 1, type: 'start', time, execution_count: 3 });
    expect([cell.state, cell.count]).toEqual(['running', 3]);
    cell.take({ seq: 2, type: 'end', time, status: 'kernel_died', state_lost: true, duration: 1.5, exit: { code: -1, signal: 'SIGKILL', oom: true } });
    expect([cell.state, cell.status, cell.stateLost, cell.duration, cell.exit?.oom]).toEqual(['done', 'kernel_died', true, 1.5, true]);
  });

  it('takes each event once, however often it comes', () => {
    const events: Line[] = [
      { seq: 1, type: 'start', time },
      { seq: 2, type: 'stdout', time, text: 'a' },
      { seq: 3, type: 'stdout', time, text: 'b\n' },
    ];
    const cell = made();
    for (const e of [...events, ...events, { seq: 4, type: 'stdout', time, text: 'c' }]) cell.take(e);
    expect(shown(cell)).toEqual(['stdout:ab\nc']);
  });

  it('has one text for each turn of a stream', () => {
    const cell = made({ type: 'stdout', text: 'a' }, { type: 'stderr', text: 'b' }, { type: 'stdout', text: 'c' });
    expect(shown(cell)).toEqual(['stdout:a', 'stderr:b', 'stdout:c']);
  });

  it('clears at once, or when the next output comes', () => {
    expect(shown(made({ type: 'stdout', text: 'a' }, { type: 'clear' }))).toEqual([]);
    const waiting = made({ type: 'stdout', text: 'a' }, { type: 'clear', wait: true });
    expect(shown(waiting)).toEqual(['stdout:a']);
    waiting.take({ seq: 3, type: 'stdout', time, text: 'b' });
    expect(shown(waiting)).toEqual(['stdout:b']);
  });

  it('replaces every display of an id', () => {
    const cell = made(result('1', { display_id: 'd' }), result('2'), result('3', { display_id: 'd' }));
    expect(cell.update({ seq: 4, type: 'update', time, display_id: 'd', data: { 'text/plain': 'new' } })).toBe(true);
    expect(shown(cell)).toEqual(['display:new', 'display:2', 'display:new']);
    expect(cell.update({ seq: 5, type: 'update', time, display_id: 'other', data: {} })).toBe(false);
  });

  it('waits for input until something else happens', () => {
    const cell = made({ type: 'input', prompt: 'name? ', password: true });
    expect(cell.asked).toEqual({ prompt: 'name? ', password: true });
    cell.take({ seq: 2, type: 'stdout', time, text: 'x' });
    expect(cell.asked).toBeNull();
  });

  it('keeps the first and the last of many displays, and says how many are not there', () => {
    const total = 20_000;
    const cell = made(...Array.from({ length: total }, (_, i) => result(String(i))));
    const all = shown(cell);
    expect(all[0]).toBe('display:0');
    expect(all.at(-1)).toBe(`display:${total - 1}`);
    expect(all).toContain(`missing:${total - maxDisplays}:0`);
    expect(all).toHaveLength(maxDisplays + 1);
  });

  it('keeps no more than so much of large displays, but the newest', () => {
    const large = 'x'.repeat(maxDisplayChars / 2 + 1);
    const cell = made(result(large), result(large), result(large));
    expect(cell.outputs.map((o) => o.kind)).toEqual(['missing', 'display']);
    const alone = made(result('x'.repeat(maxDisplayChars + 1)));
    expect(alone.outputs.map((o) => o.kind)).toEqual(['display']);
  });

  it('does not take a connection that was cut for its end', () => {
    const cell = made({ type: 'start' }, { type: 'end', status: 'cut', error: { code: 'gone', message: 'evicted' } });
    expect([cell.state, cell.failure]).toEqual(['running', 'evicted']);
  });
});
