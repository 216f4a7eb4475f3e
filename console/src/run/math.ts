// Markdown with LaTeX in it, as HTML with MathML. It comes from the sandbox: DOMPurify goes over it, and a frame shows it.

import { Marked, type TokenizerAndRendererExtension } from 'marked';
import temml from 'temml';

const inline = /^\$\$([^$]+?)\$\$|^\$(?!\s)((?:\\.|[^\\$\n])+?)(?<!\s)\$(?!\d)|^\\\((.+?)\\\)/;
const block = /^\$\$([\s\S]+?)\$\$(?:\n|$)|^\\\[([\s\S]+?)\\\](?:\n|$)|^(\\begin\{(\w+\*?)\}[\s\S]+?\\end\{\4\})(?:\n|$)/;

const extensions: TokenizerAndRendererExtension[] = [
  {
    name: 'math',
    level: 'inline',
    start: (source) => first(source, /\$|\\\(/),
    tokenizer(source) {
      const found = inline.exec(source);
      return found ? { type: 'math', raw: found[0], tex: found[1] ?? found[2] ?? found[3] ?? '', display: found[1] !== undefined } : undefined;
    },
    renderer: ({ tex, display }) => rendered(String(tex), display === true),
  },
  {
    name: 'formula',
    level: 'block',
    start: (source) => first(source, /\$\$|\\\[|\\begin\{/),
    tokenizer(source) {
      const found = block.exec(source);
      return found ? { type: 'formula', raw: found[0], tex: found[1] ?? found[2] ?? found[3] ?? '' } : undefined;
    },
    renderer: ({ tex }) => `<p>${rendered(String(tex), true)}</p>`,
  },
];

function first(source: string, what: RegExp): number | undefined {
  const at = source.search(what);
  return at < 0 ? undefined : at;
}

function rendered(tex: string, displayMode: boolean): string {
  return temml.renderToString(tex.trim(), { displayMode, throwOnError: false, trust: false, maxExpand: 500 });
}

const parser = new Marked({ extensions });

export function toHTML(source: string): string {
  return parser.parse(source, { async: false });
}
