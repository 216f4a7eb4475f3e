// All English text is in text.ts: what is between tags, or in an attribute that is read, comes from there.

import { parse } from 'svelte/compiler';
import { expect, it } from 'vitest';

const read = ['aria-description', 'aria-label', 'aria-placeholder', 'aria-roledescription', 'aria-valuetext', 'alt', 'label', 'placeholder', 'title'];
const words = /\p{L}{2}/u;

interface Node {
  type?: string;
  name?: string;
  data?: string;
  value?: unknown;
  operator?: string;
}

/** literal returns the text that is written into a component. */
function literal(source: string): string[] {
  const found: string[] = [];
  const look = (node: unknown, shown: boolean): void => {
    if (Array.isArray(node)) for (const one of node) look(one, shown);
    if (typeof node !== 'object' || node === null || Array.isArray(node)) return;
    const said = shown ? saidBy(node) : '';
    if (words.test(said)) found.push(said.trim());
    for (const [key, child] of Object.entries(node)) look(child, isShown(node, key, shown));
  };
  look(parse(source, { modern: true }).fragment, true);
  return found;
}

/** saidBy is the text that a node itself is. */
function saidBy({ type, data, value }: Node): string {
  if (type === 'Text') return data ?? '';
  if (type === 'Literal' && typeof value === 'string') return value;
  return type === 'TemplateElement' ? (value as { cooked: string }).cooked : '';
}

/** isShown says whether people read what is in a part of a node. */
function isShown({ type, name, operator }: Node, key: string, shown: boolean): boolean {
  switch (type) {
    case 'Fragment':
      return true;
    case 'Attribute':
      return read.includes(name ?? '');
    case 'ConditionalExpression':
      return shown && key !== 'test';
    case 'BinaryExpression':
      return shown && operator === '+';
    case 'StyleDirective':
    case 'IfBlock': // but for the fragments in it
    case 'EachBlock':
    case 'KeyBlock':
    case 'AwaitBlock':
    case 'ConstTag':
    case 'SnippetBlock':
    case 'CallExpression':
    case 'MemberExpression':
    case 'ArrowFunctionExpression':
      return false;
  }
  return shown;
}

const components = import.meta.glob<string>('./**/*.svelte', { query: '?raw', import: 'default', eager: true });

it('components are looked at as they are written', () => expect(components['./App.svelte']).toContain('<main'));

it.each(Object.keys(components))('%s has no text of its own', (name) => {
  expect(literal(components[name] ?? '')).toEqual([]);
});

it.each([
  ['<p>Some text</p>', ['Some text']],
  ['{#if a}<p>{text.b} and more</p>{/if}', ['and more']],
  ['<button aria-label="Do it" class="big">×</button>', ['Do it']],
  ['<Box title={`Of ${n}`} />', ['Of']],
  ["<p>{n > 1 ? 'many' : text.one} {'and' + n}</p>", ['many', 'and']],
  ["<p class={n > 1 ? 'bad' : ''}>{text.states['ended']} [{n}]</p>", []],
])('what is found in %s', (source, want) => {
  expect(literal(source)).toEqual(want);
});
