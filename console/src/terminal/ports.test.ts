import { describe, expect, it } from 'vitest';

import type { StreamLine } from '../api/types';
import { originOf, portsOf } from './ports';

const line = (type: string, port: number, pid = 1): StreamLine => ({ source: 'timeline', seq: 1, type, time: '', port, pid });

describe('ports', () => {
  it('are those that were opened and not closed', () => {
    const events = [line('port_opened', 8000), line('port_opened', 3000), line('port_closed', 8000), line('port_opened', 8000, 2), line('port_closed', 3000), line('other', 1)];
    expect(portsOf(events)).toEqual([{ port: 8000, pid: 2 }]);
  });

  it.each(['http://127.0.0.1:8900/', 'http://localhost:8900/', 'http://[::1]:8900/'])('have an origin of their own at %s', (base) => {
    expect(originOf(new URL(base), 'sb_1', 3000, { named: true }).href).toBe('http://3000-sb_1.localhost:8900/');
  });

  it('are below a path where there are no such names', () => {
    expect(originOf(new URL('http://box.example:8900/k2/'), 'sb_1', 3000, { named: true }).href).toBe('http://box.example:8900/k2/v1/sandboxes/sb_1/ports/3000/');
    expect(originOf(new URL('http://localhost:8900/'), 'sb_1', 3000, { named: false }).pathname).toBe('/v1/sandboxes/sb_1/ports/3000/');
  });
});
