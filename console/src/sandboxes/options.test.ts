import { describe, expect, it } from 'vitest';

import { optionsOf, untyped } from './options';

describe('options of a new sandbox', () => {
  it('are nothing where nothing was typed', () => {
    expect(optionsOf(untyped)).toEqual({});
  });

  it('are what was typed', () => {
    const typed = { template: 't', timeout: '60', memory: '512', cpus: '', network: 'none', metadata: 'user = ada\n\nq=a=b\nalone' };
    expect(optionsOf(typed)).toEqual({
      template: 't', timeout: 60, limits: { memory_mb: 512 }, network: { mode: 'none' }, metadata: { user: 'ada', q: 'a=b', alone: '' },
    });
  });
});
