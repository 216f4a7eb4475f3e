import { describe, expect, it, vi } from 'vitest';

import type { StreamLine } from '../api/types';
import { opened, pathOf, portsOf } from './ports';

const line = (type: string, port: number, pid = 1): StreamLine => ({ source: 'timeline', seq: 1, type, time: '', port, pid });

describe('ports', () => {
  it('are those that were opened and not closed', () => {
    const events = [line('port_opened', 8000), line('port_opened', 3000), line('port_closed', 8000), line('port_opened', 8000, 2), line('port_closed', 3000), line('other', 1)];
    expect(portsOf(events)).toEqual([{ port: 8000, pid: 2 }]);
  });

  it('are below a path where they have no origin of their own', () => {
    expect(pathOf(new URL('http://box.example:8900/k2/'), 'sb_1', 3000).href).toBe('http://box.example:8900/k2/v1/sandboxes/sb_1/ports/3000/');
  });
});

describe('a tab', () => {
  const tab = () => ({ opener: 'this page' as unknown, closed: false, location: { replace: vi.fn() }, close: vi.fn() });
  const open = (one: ReturnType<typeof tab>) => () => one as unknown as Window;

  it('goes to the address once that is known, and knows nothing of the page', async () => {
    const one = tab();
    expect(await opened(() => Promise.resolve('http://a/'), open(one))).toBe('');
    expect(one.location.replace).toHaveBeenCalledWith('http://a/');
    expect(one.opener).toBe(null);
  });

  it('is closed where there is no address', async () => {
    const one = tab();
    await expect(opened(() => Promise.reject(new Error('gone')), open(one))).rejects.toThrow('gone');
    expect(one.close).toHaveBeenCalled();
  });

  it('that the browser does not open, or that was closed, leaves the address', async () => {
    expect(await opened(() => Promise.resolve('http://a/'), () => null)).toBe('http://a/');
    const one = { ...tab(), closed: true };
    expect(await opened(() => Promise.resolve('http://a/'), open(one))).toBe('http://a/');
    expect(one.location.replace).not.toHaveBeenCalled();
  });
});
