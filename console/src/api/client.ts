// The operations of the API, each a function. Payloads are in types.ts.

import { ask, send } from './http';
import type {
  Browser, Capabilities, Completion, Context, Entry, EntryPage, Execution, HistoryEntry, NewSandbox, Process, Sandbox, SandboxPage, Session, Template, Usage, Variable,
} from './types';

const id = encodeURIComponent;
const box = (sandbox: string) => `v1/sandboxes/${id(sandbox)}`;

export const session = {
  get: () => ask<Session>('GET', 'v1/console/session'),
  begin: (token: string) => ask<Session>('POST', 'v1/console/session', { body: { token } }),
  end: () => ask<void>('DELETE', 'v1/console/session'),
  browsers: async () => (await ask<{ sessions: Browser[] }>('GET', 'v1/console/sessions')).sessions,
  endOther: (browser: string) => ask<void>('DELETE', `v1/console/sessions/${id(browser)}`),
};

export const server = {
  capabilities: () => ask<Capabilities>('GET', 'v1/capabilities'),
  templates: async () => (await ask<{ templates: Template[] }>('GET', 'v1/templates')).templates,
};

export const sandboxes = {
  list: (cursor?: string, state?: string, signal?: AbortSignal) =>
    ask<SandboxPage>('GET', 'v1/sandboxes', { query: { limit: 200, cursor, state }, signal }),
  get: (sandbox: string) => ask<Sandbox>('GET', box(sandbox)),
  create: (o: NewSandbox, key: string) => ask<Sandbox>('POST', 'v1/sandboxes', { body: o, headers: { 'Idempotency-Key': key } }),
  kill: (sandbox: string) => ask<void>('DELETE', box(sandbox)),
  close: (sandbox: string) => ask<void>('POST', `${box(sandbox)}/close`, { body: {} }),
  pause: (sandbox: string) => ask<Sandbox>('POST', `${box(sandbox)}/pause`, { body: {} }),
  resume: (sandbox: string) => ask<Sandbox>('POST', `${box(sandbox)}/resume`, { body: {} }),
  setTimeout: (sandbox: string, timeout: number) => ask<Sandbox>('POST', `${box(sandbox)}/timeout`, { body: { timeout } }),
  usage: (sandbox: string, since?: string) =>
    ask<{ metrics: Usage[] }>('GET', `${box(sandbox)}/metrics`, { query: { since } }),
};

export const contexts = {
  list: async (sandbox: string, passive = false) => (await ask<{ contexts: Context[] }>('GET', `${box(sandbox)}/contexts`, { passive })).contexts,
  create: (sandbox: string, o: { language?: string; kernel?: string }) => ask<Context>('POST', `${box(sandbox)}/contexts`, { body: o }),
  kernels: async (sandbox: string) => (await ask<{ kernels: { kernel: string; display_name: string }[] }>('GET', `${box(sandbox)}/capabilities`, { passive: true })).kernels,
  remove: (sandbox: string, context: string) => ask<void>('DELETE', `${box(sandbox)}/contexts/${id(context)}`),
  restart: (sandbox: string, context: string) => ask<Context>('POST', `${box(sandbox)}/contexts/${id(context)}/restart`, { body: {} }),
  interrupt: (sandbox: string, context: string) => ask<unknown>('POST', `${box(sandbox)}/contexts/${id(context)}/interrupt`, { body: {} }),
  history: (sandbox: string, context: string, limit?: number) =>
    ask<{ history: HistoryEntry[]; truncated: boolean }>('GET', `${box(sandbox)}/contexts/${id(context)}/history`, { query: { limit } }),
  variables: (sandbox: string, context: string) =>
    ask<{ variables: Variable[]; truncated: boolean }>('GET', `${box(sandbox)}/contexts/${id(context)}/variables`, { passive: true }),
  notebookPath: (sandbox: string, context: string) => `${box(sandbox)}/contexts/${id(context)}/notebook`,
  complete: (sandbox: string, context: string, code: string, cursor: number, signal?: AbortSignal) =>
    ask<Completion>('POST', `${box(sandbox)}/contexts/${id(context)}/complete`, { body: { code, cursor }, signal }),
  inspect: (sandbox: string, context: string, code: string, cursor: number) =>
    ask<{ found: boolean; data: Record<string, unknown> }>('POST', `${box(sandbox)}/contexts/${id(context)}/inspect`, { body: { code, cursor } }),
};

export const runs = {
  list: async (sandbox: string) => (await ask<{ executions: Execution[] }>('GET', `${box(sandbox)}/executions`, { query: { limit: 1000 } })).executions,
  get: (sandbox: string, run: string, passive = false) => ask<Execution>('GET', `${box(sandbox)}/executions/${id(run)}`, { passive }),
  submit: (sandbox: string, context: string, code: string, key: string) =>
    ask<Execution>('POST', `${box(sandbox)}/code`, {
      body: { code, context, allow_stdin: true, detach: true },
      headers: { 'Idempotency-Key': key },
    }),
  /** events are what a run did, as a stream. */
  events: (sandbox: string, run: string, after: number, signal: AbortSignal) =>
    send('GET', `${box(sandbox)}/executions/${id(run)}/events`, { query: { after }, headers: { Accept: 'application/x-ndjson' }, passive: true, signal }),
  interrupt: (sandbox: string, run: string) => ask<Execution>('POST', `${box(sandbox)}/executions/${id(run)}/interrupt`, { body: {} }),
  answer: (sandbox: string, run: string, value: string) =>
    ask<void>('POST', `${box(sandbox)}/executions/${id(run)}/input`, { body: { value } }),
  /** whole is all that the run wrote, as a stream. */
  whole: (sandbox: string, run: string, signal: AbortSignal) => send('GET', `${box(sandbox)}/executions/${id(run)}/output`, { signal }),
  /** output is a part of what the run wrote: head:N, tail:N or A-B, in bytes. */
  output: async (sandbox: string, run: string, range: string, signal?: AbortSignal) => {
    const answer = await send('GET', `${box(sandbox)}/executions/${id(run)}/output`, { query: { range }, signal });
    return { text: await answer.text(), total: Number(answer.headers.get('X-Output-Total') ?? 0), start: Number(answer.headers.get('X-Output-Start') ?? 0) };
  },
  outputPath: (sandbox: string, run: string) => `${box(sandbox)}/executions/${id(run)}/output`,
};

export const files = {
  list: (sandbox: string, path: string, cursor?: string) =>
    ask<EntryPage>('GET', `${box(sandbox)}/files/list`, { query: { path, limit: 1000, cursor }, passive: true }), // it is done again whenever something changes
  stat: (sandbox: string, path: string) => ask<Entry>('GET', `${box(sandbox)}/files/stat`, { query: { path } }),
  read: (sandbox: string, path: string, most: number, signal?: AbortSignal) =>
    send('GET', `${box(sandbox)}/files`, { query: { path }, headers: { Range: `bytes=0-${most - 1}` }, signal }),
  write: (sandbox: string, path: string, body: Blob, match?: string) =>
    send('PUT', `${box(sandbox)}/files`, { query: { path }, body, headers: match ? { 'If-Match': match } : {} }),
  remove: (sandbox: string, path: string, recursive: boolean) => ask<void>('DELETE', `${box(sandbox)}/files`, { query: { path, recursive } }),
  move: (sandbox: string, from: string, to: string) => ask<Entry>('POST', `${box(sandbox)}/files/move`, { body: { from, to } }),
  mkdir: (sandbox: string, path: string) => ask<Entry>('POST', `${box(sandbox)}/files/mkdir`, { body: { path } }),
  path: (sandbox: string) => `${box(sandbox)}/files`,
  archivePath: (sandbox: string) => `${box(sandbox)}/files/archive`,
};

/** ports are servers inside; a link opens one in a browser that has no key. */
export const ports = {
  link: (sandbox: string, port: number) => ask<{ url: string; expires_at: string }>('POST', `${box(sandbox)}/previews`, { body: { port } }),
};

export const notebooks = {
  /** run has the cells of a file run one after the other, until one fails, and what they show saved in it. */
  run: (sandbox: string, context: string, path: string) =>
    ask<unknown>('POST', `${box(sandbox)}/notebooks/run`, { body: { path, output_path: path, context, papermill: false, detach: true } }),
};

export const processes = {
  get: (sandbox: string, pid: number) => ask<Process>('GET', `${box(sandbox)}/processes/${pid}`, { passive: true }),
  list: async (sandbox: string) => (await ask<{ processes: Process[] }>('GET', `${box(sandbox)}/processes`, { passive: true })).processes,
  /** output runs a program and returns the first of its events, as lines of JSON: what is in a sandbox may write without end. */
  output: async (sandbox: string, args: string[]) => {
    const answer = await send('POST', `${box(sandbox)}/processes`, { body: { args, timeout: 30 }, headers: { Accept: 'application/x-ndjson' } });
    const reader = answer.body?.getReader();
    const decoder = new TextDecoder();
    let text = '';
    while (text.length < 64 << 10) {
      const part = await reader?.read();
      if (!part || part.done) break;
      text += decoder.decode(part.value, { stream: true });
    }
    void reader?.cancel().catch(() => undefined);
    return text.slice(0, text.lastIndexOf('\n') + 1);
  },
  /** events are what a process did, and does, as a stream. */
  events: (sandbox: string, pid: number, after: number, signal: AbortSignal) =>
    send('GET', `${box(sandbox)}/processes/${pid}/events`, { query: { after }, headers: { Accept: 'application/x-ndjson' }, passive: true, signal }),
  terminal: (sandbox: string, rows: number, cols: number) =>
    ask<Process>('POST', `${box(sandbox)}/processes`, {
      body: { cmd: 'exec "${SHELL:-/bin/sh}" -l', pty: { rows, cols }, background: true, envs: { TERM: 'xterm-256color' } },
    }),
  signal: (sandbox: string, pid: number, signal: string) => ask<void>('POST', `${box(sandbox)}/processes/${pid}/signal`, { body: { signal } }),
  remove: (sandbox: string, pid: number) => ask<void>('DELETE', `${box(sandbox)}/processes/${pid}`),
  attachPath: (sandbox: string, pid: number) => `${box(sandbox)}/processes/${pid}/attach`,
};
