import { describe, expect, it } from 'vitest';

import { creates, curl, go, python } from './snippets';

const what = { url: 'http://localhost:8900', sandbox: 'sb_1', context: 'default', code: `print('it''s "so"')\n😀` };

describe('a snippet', () => {
  it('of curl is one word for the shell, whatever quotes are in the code', () => {
    const body = /-d '((?:[^']|'\\'')*)'$/.exec(curl(what))?.[1]?.replaceAll(`'\\''`, "'");
    expect(JSON.parse(body ?? '')).toEqual({ code: what.code, context: 'default' });
  });

  it.each([python(what), go(what)])('has the code as a literal: %s', (text) => {
    expect(text).toContain(JSON.stringify(what.code));
    expect(text).toContain('"sb_1"');
  });

  it('has no key', () => {
    for (const text of [curl(what), go(what)]) expect(text).toContain('K2_API_KEY');
  });
});

describe('a program that makes a sandbox', () => {
  const o = { timeout: 600, metadata: { who: `ada's` }, limits: { cpus: 0.5 }, network: { mode: 'none' } };

  it('asks for what was chosen, and nothing else', () => {
    const made = Object.fromEntries(Object.entries(creates).map(([name, make]) => [name, make(what.url, o)]));
    expect(made['Python']).toContain(`Sandbox(timeout=600, metadata={"who": "ada's"}, limits={"cpus": 0.5}, network={"mode": "none"}, api_url=`);
    expect(JSON.parse(/-d '((?:[^']|'\\'')*)'$/.exec(made['curl'] ?? '')?.[1]?.replaceAll(`'\\''`, "'") ?? '')).toEqual(o);
    expect(made['Go']).toContain('Timeout: 600, Metadata: map[string]string{"who": "ada\'s"}, Limits: &api.LimitsRequest{CPUs: 0.5}, Network: &api.NetworkRequest{Mode: "none"}}');
    expect(JSON.parse(made['MCP'] ?? '')).toMatchObject({ mcpServers: { k2sandbox: { url: 'http://localhost:8900/mcp' } } });
    expect(creates['Go']?.(what.url, {})).toContain('api.SandboxRequest{})');
  });
});
