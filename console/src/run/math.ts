// Markdown with LaTeX in it, as HTML with MathML. It comes from the sandbox: DOMPurify goes over it, and a frame shows it.

import { Marked, type TokenizerAndRendererExtension } from 'marked';
import temml from 'temml';

const inline = /^\$\$([^$]+?)\$\$|^\$(?!\s)((?:\\.|[^\\$\n])+?)(?<!\s)\$(?!\d)|^\\\((.+?)\\\)/;
const block = /^\$\$([\s\S]+?)\$\$(?:\n|$)|^\\\[([\s\S]+?)\\\](?:\n|$)|^(\\begin\{(\w+\*?)\}[\s\S]+?\\end\{\4\})(?:\n|$)/;

/** longest is how long a formula is at most, in characters: an end is looked for no further, or a text of many beginnings would freeze the page. */
const longest = 5000;

const extensions: TokenizerAndRendererExtension[] = [
  {
    name: 'math',
    level: 'inline',
    start: (source) => first(source, /\$|\\\(/),
    tokenizer(source) {
      const found = inline.exec(source.slice(0, longest));
      return found ? { type: 'math', raw: found[0], tex: found[1] ?? found[2] ?? found[3] ?? '', display: found[1] !== undefined } : undefined;
    },
    renderer: ({ tex, display }) => rendered(String(tex), display === true),
  },
  {
    name: 'formula',
    level: 'block',
    start: (source) => first(source, /\$\$|\\\[|\\begin\{/),
    tokenizer(source) {
      const found = block.exec(source.slice(0, longest));
      return found ? { type: 'formula', raw: found[0], tex: found[1] ?? found[2] ?? found[3] ?? '' } : undefined;
    },
    renderer: ({ tex }) => `<p>${rendered(String(tex), true)}</p>`,
  },
];

function first(source: string, what: RegExp): number | undefined {
  const at = source.slice(0, longest).search(what); // of what is behind it is asked later
  return at < 0 ? undefined : at;
}

function rendered(tex: string, displayMode: boolean): string {
  return temml.renderToString(tex.trim(), { displayMode, throwOnError: false, trust: false, maxExpand: 500 });
}

const parser = new Marked({ extensions });

const most = 256 << 10; // characters of Markdown; what is longer, or nested without end, is shown as it is written

export function toHTML(source: string): string {
  try {
    if (source.length <= most) return parser.parse(source, { async: false });
  } catch {
    // It is nested so deeply that the parser gave up.
  }
  return `<pre>${source.replace(/[&<]/g, (c) => (c === '&' ? '&amp;' : '&lt;'))}</pre>`;
}
