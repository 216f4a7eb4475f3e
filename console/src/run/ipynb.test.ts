import { describe, expect, it } from 'vitest';

import { readNotebook } from './ipynb';

const file = (...cells: unknown[]) => JSON.stringify({ nbformat: 4, nbformat_minor: 5, metadata: {}, cells });

describe('a notebook file', () => {
  it('has its cells, with what they showed', () => {
    const cells = readNotebook(
      file(
        { cell_type: 'markdown', source: ['# A\n', 'b'] },
        {
          cell_type: 'code',
          source: '1+1',
          outputs: [
            { output_type: 'stream', name: 'stderr', text: ['a\n', 'b'] },
            { output_type: 'execute_result', data: { 'text/plain': '2' }, metadata: {} },
            { output_type: 'error', ename: 'E', evalue: 'v', traceback: ['x', 'y'] },
            { output_type: 'error', ename: 'E', evalue: 'v' },
          ],
        },
        { cell_type: 'odd' },
      ),
    );
    expect(cells).toEqual([
      { kind: 'markdown', source: '# A\nb', outputs: [] },
      {
        kind: 'code',
        source: '1+1',
        outputs: [
          { kind: 'text', stream: 'stderr', text: 'a\nb' },
          { kind: 'display', data: { 'text/plain': '2' }, metadata: {} },
          { kind: 'error', text: 'x\ny' },
          { kind: 'error', text: 'E: v' },
        ],
      },
      { kind: 'raw', source: '', outputs: [] },
    ]);
  });

  it.each(['', 'null', '[]', '{"nbformat":4}', '{"nbformat":3,"cells":[]}', '{"cells":[]}'])('is refused: %s', (text) => {
    expect(() => readNotebook(text)).toThrow();
  });
});
