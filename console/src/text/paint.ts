// Lines as DOM nodes: text nodes and spans only, never HTML. A line that has not changed keeps its node.

import type { Line } from './line';
import { hex, type Style } from './style';

interface Painted {
  node: HTMLElement;
  rev: number;
}

export class Painter {
  private painted = new WeakMap<Line, Painted>();

  constructor(
    private readonly parent: HTMLElement,
    private readonly clipped: (n: number) => string,
  ) {}

  /** paint makes the parent's children those of the lines. */
  paint(lines: Line[]): void {
    const keep = new Set<Node>();
    const nodes = lines.map((line) => {
      const node = this.node(line);
      keep.add(node);
      return node;
    });
    for (const child of [...this.parent.childNodes]) if (!keep.has(child)) child.remove();
    let at = this.parent.firstChild;
    for (const node of nodes) {
      if (node === at) at = at.nextSibling;
      else this.parent.insertBefore(node, at);
    }
  }

  private node(line: Line): HTMLElement {
    let painted = this.painted.get(line);
    if (!painted) {
      painted = { node: document.createElement('div'), rev: -1 };
      this.painted.set(line, painted);
    }
    if (painted.rev !== line.rev) {
      painted.rev = line.rev;
      painted.node.replaceChildren(...line.pieces.map(({ text, style }) => piece(text, style)));
      if (line.length === 0) painted.node.append('\n'); // an empty line has its height, and is copied as one
      if (line.clipped > 0) painted.node.append(note(this.clipped(line.clipped)));
    }
    return painted.node;
  }
}

function note(text: string): HTMLElement {
  const node = document.createElement('em');
  node.className = 'quiet';
  node.textContent = text;
  return node;
}

function piece(text: string, style: Style): Node {
  if (Object.keys(style).length === 0) return document.createTextNode(text);
  const node = document.createElement('span');
  node.textContent = text;
  const [fg, bg] = style.inverse ? [style.bg ?? 'ground', style.fg ?? 'text'] : [style.fg, style.bg];
  if (fg !== undefined) node.style.color = colour(fg);
  if (bg !== undefined) node.style.backgroundColor = colour(bg);
  if (bg !== undefined && fg === undefined) node.style.color = 'var(--ground)'; // the palette is made to be read on the ground, and so is the ground on it
  if (style.bold) node.style.fontWeight = '700';
  if (style.dim) node.style.opacity = '0.8';
  if (style.italic) node.style.fontStyle = 'italic';
  const lines = [style.underline && 'underline', style.strike && 'line-through'].filter(Boolean).join(' ');
  if (lines) node.style.textDecorationLine = lines;
  return node;
}

function colour(c: number | string): string {
  if (typeof c === 'number') return c < 16 ? `var(--ansi-${c})` : hex(c);
  return c.startsWith('#') ? c : `var(--${c})`;
}
