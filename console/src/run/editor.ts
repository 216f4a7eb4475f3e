// The editor of a cell: CodeMirror with the kernel's own completions.

import { autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap, type CompletionContext, type CompletionResult } from '@codemirror/autocomplete';
import { defaultKeymap, history, historyKeymap, indentWithTab } from '@codemirror/commands';
import { python } from '@codemirror/lang-python';
import { bracketMatching, defaultHighlightStyle, HighlightStyle, indentOnInput, indentUnit, syntaxHighlighting } from '@codemirror/language';
import { drawSelection, EditorView, keymap, lineNumbers } from '@codemirror/view';

import type { Completion } from '../api/types';

export interface EditorOptions {
  parent: HTMLElement;
  code: string;
  label: string;
  run: () => void;
  changed: (code: string) => void;
  leave: () => void; // Escape was pressed, and nothing in the editor wanted it
  inspect: (code: string, cursor: number) => void; // the cursor in code points
  complete: (code: string, cursor: number, signal: AbortSignal) => Promise<Completion>;
}

/** palette has the colour of each theme's ANSI palette for one of CodeMirror's default style, which is made for a light ground alone. */
const palette: Record<string, string> = {
  '#708': '--ansi-5', '#219': '--ansi-6', '#164': '--ansi-6', '#a11': '--ansi-2', '#e40': '--ansi-3', '#00f': '--ansi-4', '#30a': '--ansi-12',
  '#085': '--ansi-4', '#167': '--ansi-4', '#256': '--ansi-14', '#00c': '--ansi-12', '#940': '--quiet', '#f00': '--bad',
};
const colours = HighlightStyle.define(defaultHighlightStyle.specs.map(({ color, ...spec }) => ({ ...spec, color: `var(${palette[String(color)] ?? '--text'})` })));

const look = EditorView.theme({
  '&': { backgroundColor: 'var(--raised)', color: 'var(--text)', border: '1px solid var(--line)', borderRadius: '6px' },
  '&.cm-focused': { outline: '2px solid var(--accent)' },
  '.cm-content': { fontFamily: 'var(--mono)', caretColor: 'var(--text)' },
  '.cm-scroller': { maxHeight: '60vh' },
  '.cm-cursor': { borderLeftColor: 'var(--text)' },
  '.cm-gutters': { backgroundColor: 'transparent', color: 'var(--quiet)', border: '0' },
  '.cm-selectionBackground, &.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground': { backgroundColor: 'var(--mark)' },
  '.cm-tooltip': { backgroundColor: 'var(--ground)', color: 'var(--text)', border: '1px solid var(--line)' },
  '.cm-tooltip-autocomplete ul li[aria-selected]': { backgroundColor: 'var(--accent)', color: 'var(--on-accent)' },
});

export function openEditor(o: EditorOptions): EditorView {
  const run = () => {
    o.run();
    return true;
  };
  const leave = () => {
    o.leave();
    return false; // CodeMirror lets Tab leave the editor after Escape, as WCAG 2.1.2 asks
  };
  return new EditorView({
    parent: o.parent,
    doc: o.code,
    extensions: [
      keymap.of([...['Shift-Enter', 'Mod-Enter', 'Alt-Enter'].map((key) => ({ key, run })), { key: 'Shift-Tab', run: (view) => inspect(view, o) }]), // the first that has a key counts
      lineNumbers(), history(), drawSelection(), indentOnInput(), bracketMatching(), closeBrackets(),
      indentUnit.of('    '),
      python(),
      syntaxHighlighting(colours),
      autocompletion({ override: [completer(o)] }),
      keymap.of([...closeBracketsKeymap, ...completionKeymap, { key: 'Escape', run: leave }, ...defaultKeymap, ...historyKeymap, indentWithTab]),
      EditorView.lineWrapping,
      EditorView.contentAttributes.of({ 'aria-label': o.label }),
      EditorView.updateListener.of((update) => {
        if (update.docChanged) o.changed(update.state.doc.toString());
      }),
      look,
    ],
  });
}

/** inspect asks what is at the cursor. Where nothing is before it on its line, the key is for the indentation. */
function inspect({ state }: EditorView, o: EditorOptions): boolean {
  const { head, empty } = state.selection.main;
  if (!empty || state.doc.lineAt(head).text.slice(0, head - state.doc.lineAt(head).from).trim() === '') return false;
  const code = state.doc.toString();
  o.inspect(code, [...code.slice(0, head)].length);
  return true;
}

/** completer asks the kernel, which counts in code points where CodeMirror counts in UTF-16. */
function completer(o: EditorOptions) {
  return async (context: CompletionContext): Promise<CompletionResult | null> => {
    if (!context.explicit && !context.matchBefore(/[\w.]$/)) return null;
    const code = context.state.doc.toString();
    const stop = new AbortController();
    context.addEventListener('abort', () => stop.abort());
    try {
      const found = await o.complete(code, [...code.slice(0, context.pos)].length, stop.signal);
      if (found.matches.length === 0) return null;
      const points = [...code];
      return {
        from: points.slice(0, found.cursor_start).join('').length,
        options: found.matches.map((label) => ({ label })),
        validFor: /^\w*$/,
      };
    } catch {
      return null; // the kernel is busy, or gone: its cells say so
    }
  };
}

export function replace(view: EditorView, code: string): void {
  view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: code }, selection: { anchor: code.length } });
}
