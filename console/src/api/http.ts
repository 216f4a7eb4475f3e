// Requests to the server that the page came from. The cookie says who asks: no key is ever here.

import { text } from '../text';

/** base is the address of the API: the page is one path below it. */
export const base = new URL('..', location.href.split('#')[0]);

/** Problem is a request that failed: what the server said, or that it said nothing. */
export class Problem extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly status = 0,
    readonly requestID = '',
    readonly details: Record<string, unknown> = {},
  ) {
    super(message);
  }
}

/** problemOf makes a Problem of whatever was thrown. */
export function problemOf(e: unknown): Problem {
  if (e instanceof Problem) return e;
  return new Problem('internal', e instanceof Error ? e.message : String(e));
}

export interface Options {
  query?: Record<string, string | number | boolean | undefined>;
  body?: unknown;
  headers?: Record<string, string>;
  signal?: AbortSignal;
  passive?: boolean; // it is no activity: a tab that is left open keeps no sandbox alive
}

/** newKey is an Idempotency-Key. crypto.randomUUID is not there where the page comes by plain HTTP from another machine. */
export function newKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join('');
}

export function address(path: string, query: Options['query'] = {}): URL {
  const url = new URL(path.replace(/^\//, ''), base);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined) url.searchParams.set(name, String(value));
  }
  return url;
}

/** send returns an answer whose status is below 400. It throws a Problem, or an AbortError where the signal asks for it. */
export async function send(method: string, path: string, o: Options = {}): Promise<Response> {
  const raw = o.body instanceof Blob;
  const headers: Record<string, string> = { ...o.headers };
  if (o.passive) headers['X-Passive'] = 'true';
  let body: BodyInit | undefined;
  if (raw) body = o.body as Blob;
  else if (o.body !== undefined) {
    headers['Content-Type'] = 'application/json';
    body = JSON.stringify(o.body);
  }
  let answer: Response;
  try {
    answer = await fetch(address(path, o.query), { method, headers, body, signal: o.signal, credentials: 'same-origin', cache: 'no-store' });
  } catch (e) {
    if (o.signal?.aborted) throw e;
    throw new Problem('unreachable', text.problem.unreachable);
  }
  if (answer.status >= 400) throw await failure(answer);
  return answer;
}

/** ask is send for an answer that is JSON. */
export async function ask<T>(method: string, path: string, o: Options = {}): Promise<T> {
  const answer = await send(method, path, o);
  if (answer.status === 204) return undefined as T;
  return (await answer.json()) as T;
}

async function failure(answer: Response): Promise<Problem> {
  const id = answer.headers.get('X-Request-Id') ?? '';
  let told: { code?: string; message?: string; details?: Record<string, unknown> } = {};
  try {
    told = ((await answer.json()) as { error?: typeof told }).error ?? {};
  } catch {
    // A proxy in between has answered, and not with JSON.
  }
  const message = answer.status === 401 ? text.problem.expired : (told.message ?? text.problem.status(answer.status)); // who has no key is told nothing of keys
  return new Problem(told.code ?? 'http', message, answer.status, id, told.details);
}
