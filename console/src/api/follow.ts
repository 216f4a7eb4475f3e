// One connection for all that happens in a sandbox, which goes on where it stopped when it is lost.

import { Backoff, sleep } from './backoff';
import { Cursor } from './cursor';
import { Problem, problemOf, send } from './http';
import { lines } from './ndjson';
import { seen, whileSeen } from './seen';
import type { Source, StreamLine } from './types';

/** silence is how long a connection may say nothing before it counts as lost: the server sends a ping every 15 s. */
const silence = 45_000;

export type Link =
  | { state: 'connecting' }
  | { state: 'live'; replayed: number; restarted: boolean }
  | { state: 'waiting'; problem: Problem }
  | { state: 'ended'; reason: string }
  | { state: 'refused'; problem: Problem };

export interface Follower {
  /** lines takes what came together. */
  lines(batch: StreamLine[]): void;
  /** link is told each time the connection changes. */
  link(link: Link): void;
  /** restartedNow is told that all numbers begin anew: what is known of runs is of a sandbox that is no more. */
  restartedNow(): void;
}

export interface FollowOptions {
  include?: Source[]; // which of 'execution', 'process' and 'metrics' come, beside the timeline
  watch?: string; // a directory
}

const words: Partial<Record<Source, string>> = { execution: 'executions', process: 'processes', metrics: 'metrics' };

/** isFinal reports whether no other try makes sense after an answer. */
export function isFinal(problem: Problem): boolean {
  return [400, 401, 403, 404, 410, 421].includes(problem.status);
}

/** follow reads the stream after the cursor until the signal is aborted, the sandbox ends or the server refuses. */
export async function follow(sandbox: string, cursor: Cursor, o: FollowOptions, to: Follower, signal: AbortSignal): Promise<void> {
  const backoff = new Backoff();
  for (;;) {
    await seen(signal);
    if (signal.aborted) return;
    to.link({ state: 'connecting' });
    let problem: Problem;
    try {
      const reason = await once(sandbox, cursor, o, to, signal, () => backoff.reset());
      if (reason !== undefined) return to.link({ state: 'ended', reason });
      problem = new Problem('cut', '');
    } catch (e) {
      if (signal.aborted) return;
      problem = problemOf(e);
      if (isFinal(problem)) return to.link({ state: 'refused', problem });
    }
    to.link({ state: 'waiting', problem });
    await sleep(backoff.next(), signal);
  }
}

const path = (sandbox: string) => `v1/sandboxes/${encodeURIComponent(sandbox)}/stream`;

/** standing returns where the stream stands now: all that has ended is behind it, and what runs is in it from its beginning. */
export async function standing(sandbox: string, signal: AbortSignal): Promise<Cursor> {
  const answer = await send('GET', path(sandbox), { query: { after: 'now' }, headers: { Accept: 'application/x-ndjson' }, signal });
  if (answer.body) {
    for await (const [hello] of lines(answer.body, () => undefined)) {
      if (hello?.cursor) return Cursor.parse(hello.cursor); // which ends the request, too
      break;
    }
  }
  throw new Problem('cut', '');
}

/** past hands over the timeline from its beginning to a number, in batches. */
export async function past(sandbox: string, newest: number, take: (batch: StreamLine[]) => void, signal: AbortSignal): Promise<void> {
  if (newest === 0) return;
  const answer = await send('GET', `v1/sandboxes/${encodeURIComponent(sandbox)}/timeline`, {
    query: { after: 0 },
    headers: { Accept: 'application/x-ndjson' },
    passive: true,
    signal,
  });
  if (!answer.body) return;
  for await (const batch of lines(answer.body, () => undefined)) {
    take(batch.filter((line) => line.type !== 'ping' && line.seq <= newest).map((line) => ({ ...line, source: 'timeline' })));
    if (batch.some((line) => line.seq >= newest)) return; // which ends the request, too
  }
}

/** once is one connection. It returns the reason of the sandbox's end, or undefined where the connection was cut. */
async function once(
  sandbox: string,
  cursor: Cursor,
  o: FollowOptions,
  to: Follower,
  signal: AbortSignal,
  progress: () => void,
): Promise<string | undefined> {
  const connection = new AbortController();
  const abort = () => connection.abort();
  signal.addEventListener('abort', abort);
  const stay = whileSeen(abort);
  let timer = setTimeout(abort, silence);
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(abort, silence);
  };
  try {
    const include = o.include ?? ['execution'];
    const answer = await send('GET', path(sandbox), {
      query: { after: cursor.toString(), include: ['timeline', ...include.map((s) => words[s] ?? s)].join(','), watch: o.watch },
      headers: { Accept: 'application/x-ndjson' },
      passive: true,
      signal: connection.signal,
    });
    if (!answer.body) throw new Problem('cut', '');
    return await read(lines(answer.body, alive), cursor, include, to, progress);
  } finally {
    stay();
    clearTimeout(timer);
    signal.removeEventListener('abort', abort);
    connection.abort();
  }
}

async function read(
  batches: AsyncGenerator<StreamLine[]>,
  cursor: Cursor,
  include: Source[],
  to: Follower,
  progress: () => void,
): Promise<string | undefined> {
  const follows = (source: Source) => include.includes(source);
  const epoch = cursor.epoch;
  let replayed = 0;
  let restarted = false;
  const begun = Date.now();
  for await (const batch of batches) {
    for (const line of batch) {
      if (line.source === 'stream' && line.type === 'hello' && epoch !== '' && line.epoch !== epoch) {
        restarted = true;
        to.restartedNow();
      }
      cursor.advance(line, follows);
    }
    to.lines(batch);
    progress();
    if (Date.parse(batch[0]?.time ?? '') < begun) replayed += batch.filter((line) => line.source === 'execution').length;
    to.link({ state: 'live', replayed, restarted });
    const last = batch.at(-1);
    if (last?.type === 'end' && last.source === 'timeline') return last.reason ?? last.status ?? '';
  }
  return undefined;
}
