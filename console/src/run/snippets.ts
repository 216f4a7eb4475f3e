// A cell as a program of one's own that does the same. Keys are never in it: they are in the environment.

export interface What {
  url: string; // of the server, without a slash at its end
  sandbox: string;
  context: string;
  code: string;
}

/** curl quotes for a POSIX shell: all but ' stands for itself. */
export function curl({ url, sandbox, context, code }: What): string {
  const quoted = (s: string) => `'${s.replaceAll("'", `'\\''`)}'`;
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
