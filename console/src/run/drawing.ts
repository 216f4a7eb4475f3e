// The programs that draw figures in a frame, as text: of Vega our own, of plotly the one that the sandbox has, which fits its figures.

import vegaURL from '../../build/vega.js?url';

import { files, processes } from '../api/client';

export type Drawing = { draw: 'plotly'; spec: unknown } | { draw: 'vega'; spec: unknown; mode: 'vega' | 'vega-lite' };

const most = 32 << 20; // bytes of a script

const find = 'import importlib.util as u, os; print(os.path.join(u.find_spec("plotly").submodule_search_locations[0], "package_data", "plotly.min.js"))';

const scripts = new Map<string, Promise<string>>();

/** scriptOf returns the program that draws; once it is there it is kept. */
export function scriptOf(draw: Drawing['draw'], sandbox: string): Promise<string> {
  const key = draw === 'vega' ? '' : sandbox;
  let script = scripts.get(key);
  if (!script) {
    script = draw === 'vega' ? vega() : plotly(sandbox);
    scripts.set(key, script);
    script.catch(() => scripts.delete(key));
  }
  return script;
}

async function vega(): Promise<string> {
  return (await fetch(vegaURL)).text();
}

async function plotly(sandbox: string): Promise<string> {
  const events = await processes.output(sandbox, ['python', '-c', find]);
  const told = events
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as { type?: string; text?: string })
    .filter((event) => event.type === 'stdout')
    .map((event) => event.text ?? '');
  const path = told.join('').trim();
  if (!path.startsWith('/')) throw new Error('there is no plotly');
  return (await files.read(sandbox, path, most)).text();
}
