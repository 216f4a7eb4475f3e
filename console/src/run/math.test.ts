import { describe, expect, it } from 'vitest';

import { toHTML } from './math';

describe('Markdown with LaTeX', () => {
  it.each(['a $x^2$ b', '$$x^2$$', 'a $$x^2$$ b', '\\begin{equation}x^2\\end{equation}', '\\(x^2\\)', '\\[x^2\\]', '$\\displaystyle x^{2}$'])('has MathML: %s', (source) => {
    expect(toHTML(source)).toContain('<msup>');
  });

  it.each(['it costs $5 and $6', 'a $ b $ c', '`$x$`', '```\n$$x$$\n```'])('leaves other dollars alone: %s', (source) => {
    expect(toHTML(source)).not.toContain('<math');
  });

  it('says what is wrong instead of failing', () => {
    expect(toHTML('$\\frac{$')).toContain('frac');
  });
});
