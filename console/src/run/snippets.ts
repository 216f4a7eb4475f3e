// A cell as a program of one's own that does the same. Keys are never in it: they are in the environment.

import type { NewSandbox } from '../api/types';

export interface What {
  url: string; // of the server, without a slash at its end
  sandbox: string;
  context: string;
  code: string;
}

export function curl({ url, sandbox, context, code }: What): string {
  return [
    `curl -sN ${quoted(`${url}/v1/sandboxes/${sandbox}/code`)}`,
    `-H "X-API-Key: $K2_API_KEY" -H 'Content-Type: application/json'`,
    `-d ${quoted(JSON.stringify({ code, context }))}`,
  ].join(' \\\n  ');
}

/** python quotes as JSON does, which Python reads in the same way. */
export function python({ url, sandbox, context, code }: What): string {
  return [
    'from k2sandbox import Sandbox',
    '',
    `sandbox = Sandbox.connect(${literal(sandbox)}, api_url=${literal(url)}, keep=True)`,
    `print(sandbox.run_code(${literal(code)}, context=${literal(context)}))`,
  ].join('\n');
}

export function go({ url, sandbox, context, code }: What): string {
  return [
    `c, err := client.New(${literal(url)}, client.Options{Key: os.Getenv("K2_API_KEY")})`,
    'if err != nil {',
    '\tlog.Fatal(err)',
    '}',
    `for event, err := range c.In(${literal(sandbox)}).Run(ctx, api.RunRequest{Code: ${literal(code)}, Context: ${literal(context)}}) {`,
    '\tif err != nil {',
    '\t\tlog.Fatal(err)',
    '\t}',
    '\tfmt.Print(event.Text)',
    '}',
  ].join('\n');
}

/** literal is a string as JSON, Python and Go read it: what is beyond the first plane stands for itself, as Go has no surrogates. */
function literal(s: string): string {
  return JSON.stringify(s.toWellFormed()).replaceAll('\u007f', '\\u007f');
}

/** creates are programs that make a sandbox of some options, by the name of what they are written in. */
export const creates: Record<string, (url: string, o: NewSandbox) => string> = {
  Python: (url, o) => {
    const named = Object.entries(o).map(([name, value]) => `${name}=${valueOf(value)}`);
    return ['from k2sandbox import Sandbox', '', `sandbox = Sandbox(${[...named, `api_url=${literal(url)}`, 'keep=True'].join(', ')})`, 'print(sandbox.run_code("1 + 1"))'].join('\n');
  },
  curl: (url, o) =>
    [`curl -s ${quoted(`${url}/v1/sandboxes`)}`, `-H "X-API-Key: $K2_API_KEY" -H 'Content-Type: application/json'`, `-d ${quoted(JSON.stringify(o))}`].join(' \\\n  '),
  Go: (url, o) =>
    [
      `c, err := client.New(${literal(url)}, client.Options{Key: os.Getenv("K2_API_KEY")})`,
      'if err != nil {',
      '\tlog.Fatal(err)',
      '}',
      `box, err := c.CreateSandbox(ctx, api.SandboxRequest{${goFields(o).join(', ')}})`,
    ].join('\n'),
  MCP: (url) => JSON.stringify({ mcpServers: { k2sandbox: { type: 'http', url: `${url}/mcp` } } }, null, 2),
};

function goFields(o: NewSandbox): string[] {
  const fields: string[] = [];
  if (o.template) fields.push(`Template: ${literal(o.template)}`);
  if (o.timeout) fields.push(`Timeout: ${o.timeout}`);
  if (o.metadata) fields.push(`Metadata: map[string]string{${Object.entries(o.metadata).map(([k, v]) => `${literal(k)}: ${literal(v)}`).join(', ')}}`);
  if (o.limits) {
    const { memory_mb, cpus } = o.limits;
    fields.push(`Limits: &api.LimitsRequest{${[memory_mb && `MemoryMB: ${memory_mb}`, cpus && `CPUs: ${cpus}`].filter(Boolean).join(', ')}}`);
  }
  if (o.network?.mode) fields.push(`Network: &api.NetworkRequest{Mode: ${literal(o.network.mode)}}`);
  return fields;
}

/** valueOf is a value of options as JSON, which Python reads in the same way. */
function valueOf(value: unknown): string {
  if (typeof value === 'string') return literal(value);
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  return `{${Object.entries(value).map(([k, v]) => `${literal(k)}: ${valueOf(v)}`).join(', ')}}`;
}

/** quoted quotes for a POSIX shell: all but ' stands for itself. */
function quoted(s: string): string {
  return `'${s.replaceAll("'", `'\\''`)}'`;
}
