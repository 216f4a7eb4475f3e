import { describe, expect, it, vi } from 'vitest';

// The modules look at the address of the page when they are loaded.
vi.stubGlobal('location', { href: 'http://localhost:8900/console/#/' });
vi.stubGlobal('window', globalThis);
vi.stubGlobal('document', { visibilityState: 'visible', addEventListener: () => undefined, removeEventListener: () => undefined });
vi.stubGlobal('requestAnimationFrame', () => 1);
vi.stubGlobal('cancelAnimationFrame', () => undefined);
const { Session } = await import('./session.svelte');

const json = (body: object, status = 200) => new Response(JSON.stringify(body), { status });
const hello = (cursor: string) => ({ source: 'stream', seq: 0, type: 'hello', time: '2026-01-02T15:04:05Z', epoch: 'ep', cursor });
const ended = { source: 'timeline', seq: 9, type: 'end', time: '2026-01-02T15:04:06Z', reason: 'closed' };
const kept = { execution_id: 'ex_1', code: '1 + 1', status: 'ok', execution_count: 1, started_at: '2026-01-02T15:04:05Z', ended_at: '2026-01-02T15:04:05Z' };

describe('a session', () => {
  it('shows the other contexts where one is deleted between the list and its history', async () => {
    const asked: string[] = [];
    vi.stubGlobal('fetch', (url: URL) => {
      const path = url.pathname.replace('/v1/sandboxes/sb_1', '');
      asked.push(path);
      switch (path) {
        case '/stream':
          return Promise.resolve(new Response([hello('ep:0'), ...(url.searchParams.get('after') === 'now' ? [] : [ended])].map((line) => JSON.stringify(line) + '\n').join('')));
        case '/contexts':
          return Promise.resolve(json({ contexts: [{ context_id: 'gone' }, { context_id: 'default' }] }));
        case '/contexts/default/history':
          return Promise.resolve(json({ history: [kept], truncated: false }));
        case '/executions':
          return Promise.resolve(json({ executions: [] }));
        case '':
          return Promise.resolve(json({ sandbox_id: 'sb_1' }));
      }
      return Promise.resolve(json({ error: { code: 'not_found', message: 'no such context' } }, 404));
    });
    const session = new Session('sb_1');
    await session.open(); // until the stream ends
    session.close();
    expect(asked).toContain('/contexts/gone/history');
    expect(session.problem).toBe(null);
    expect(session.link).toEqual({ state: 'ended', reason: 'closed' });
    expect(session.cells('default').map((cell) => cell.code)).toEqual(['1 + 1']);
  });
});
