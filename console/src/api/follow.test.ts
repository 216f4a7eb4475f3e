import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import type { Link } from './follow';
import type { StreamLine } from './types';

const time = '2026-01-02T15:04:05Z';

// The modules look at the address of the page when they are loaded.
vi.stubGlobal('location', { href: 'http://localhost:8900/console/#/' });
const { follow } = await import('./follow');
const { Cursor } = await import('./cursor');

const hello = (cursor: string) => ({ source: 'stream', seq: 0, type: 'hello', time, epoch: cursor.split(':')[0], cursor });
const event = (seq: number, type = 'stdout') => ({ source: 'execution', id: 'e', seq, type, time });
const ended = { source: 'timeline', seq: 9, type: 'end', time, reason: 'closed' };

/** answer is one connection: the lines that come before it is cut. */
const answer = (...lines: object[]) => new Response(lines.map((line) => JSON.stringify(line) + '\n').join(''));
const refusal = (status: number, code: string) => new Response(JSON.stringify({ error: { code, message: code } }), { status });

/** followed follows connections one after the other and returns what came of them. */
async function followed(...answers: (Response | Error)[]) {
  const asked: string[] = [];
  vi.stubGlobal('fetch', (url: URL) => {
    asked.push(url.searchParams.get('after') ?? '');
    const next = answers.shift() ?? refusal(410, 'gone');
    return next instanceof Error ? Promise.reject(next) : Promise.resolve(next);
  });
  const got: StreamLine[] = [];
  const links: Link[] = [];
  let restarts = 0;
  const done = follow(
    'sb_1',
    Cursor.parse('ep:4,e:0'),
    {},
    { lines: (batch) => got.push(...batch), link: (link) => links.push(link), restartedNow: () => restarts++ },
    new AbortController().signal,
  );
  let over = false;
  void done.then(() => (over = true));
  for (let i = 0; i < 100 && !over; i++) await vi.advanceTimersByTimeAsync(1000); // a minute and a half is more than all pauses together
  expect(over).toBe(true);
  return { asked, seqs: got.filter((line) => line.source === 'execution').map((line) => line.seq), last: links.at(-1), restarts };
}

describe('a stream', () => {
  beforeEach(() => vi.useFakeTimers());
  afterEach(() => vi.useRealTimers());

  it('goes on behind the last line that came, until the sandbox ends', async () => {
    const got = await followed(answer(hello('ep:4,e:0'), event(1), event(2)), answer(hello('ep:4,e:2'), event(3), event(4, 'end'), ended));
    expect(got.asked).toEqual(['ep:4,e:0', 'ep:4,e:2']);
    expect(got.seqs).toEqual([1, 2, 3, 4]);
    expect(got.last).toEqual({ state: 'ended', reason: 'closed' });
  });

  it('is asked for again where the server cannot be reached, or is busy', async () => {
    const got = await followed(new TypeError('Failed to fetch'), refusal(503, 'unavailable'), refusal(409, 'conflict'), answer(hello('ep:4,e:0'), event(1), ended));
    expect(got.asked).toHaveLength(4);
    expect(got.last).toEqual({ state: 'ended', reason: 'closed' });
  });

  it.each([401, 404, 410])('is not asked for again after %d', async (status) => {
    const got = await followed(refusal(status, 'no'));
    expect(got.asked).toHaveLength(1);
    expect(got.last).toMatchObject({ state: 'refused', problem: { status } });
  });

  it('tells of a restart, after which all numbers begin anew', async () => {
    const got = await followed(answer(hello('ep:4,e:0'), event(1)), answer(hello('other:0'), event(1), ended));
    expect(got.restarts).toBe(1);
    expect(got.seqs).toEqual([1, 1]);
  });
});
