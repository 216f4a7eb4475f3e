// Where the user is, as the fragment of the address: the page is one file below any path, and a link is all there is to
// say. "#/sb/ID/run?ctx=default&run=EID".

export type Screen = 'run' | 'files' | 'terminal' | 'activity';
export const screens: Screen[] = ['run', 'files', 'terminal', 'activity'];

export type Route =
  | { at: 'sandboxes'; query: Record<string, string> }
  | { at: 'server'; query: Record<string, string> }
  | { at: 'sandbox'; id: string; screen: Screen; query: Record<string, string> }
  | { at: 'unknown'; path: string; query: Record<string, string> };

export function parse(fragment: string): Route {
  const [path = '', search = ''] = split(fragment.replace(/^#/, ''), '?');
  const query = Object.fromEntries(new URLSearchParams(search));
  const parts = path.split('/').filter((part) => part !== '');
  if (parts.length === 0 || (parts.length === 1 && parts[0] === 'sandboxes')) return { at: 'sandboxes', query };
  if (parts.length === 1 && parts[0] === 'server') return { at: 'server', query };
  const [root, id, screen = 'run'] = parts;
  if (root === 'sb' && id && parts.length <= 3 && (screens as string[]).includes(screen)) {
    return { at: 'sandbox', id: decode(id), screen: screen as Screen, query };
  }
  return { at: 'unknown', path, query };
}

export function format(route: Route): string {
  const set = Object.entries(route.query).filter(([, value]) => value !== '');
  const search = new URLSearchParams(set).toString();
  return `#${pathOf(route)}${search === '' ? '' : '?' + search}`;
}

function pathOf(route: Route): string {
  switch (route.at) {
    case 'sandbox':
      return `/sb/${encodeURIComponent(route.id)}/${route.screen}`;
    case 'server':
      return '/server';
    case 'unknown':
      return route.path;
    case 'sandboxes':
      return '/';
  }
}

function split(s: string, at: string): [string, string] {
  const i = s.indexOf(at);
  return i < 0 ? [s, ''] : [s.slice(0, i), s.slice(i + 1)];
}

function decode(s: string): string {
  try {
    return decodeURIComponent(s);
  } catch {
    return s;
  }
}
