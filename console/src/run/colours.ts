// The colours of code that is not edited any more: pieces of text, so that nothing of it is ever HTML.

import { pythonLanguage } from '@codemirror/lang-python';

export type Kind = '' | 'keyword' | 'string' | 'number' | 'comment';

export interface Piece {
  text: string;
  kind: Kind;
}

/** maxPieces bounds the elements of a cell's code, of which a page has many: what comes behind has no colour. */
export const maxPieces = 300;

const maxCode = 32 << 10; // characters that are looked at

/** coloured cuts Python into pieces, each of one kind. */
export function coloured(code: string): Piece[] {
  const pieces: Piece[] = [];
  let at = 0; // up to where there are pieces
  const add = (to: number, kind: Kind) => {
    if (to <= at) return;
    pieces.push({ text: code.slice(at, to), kind });
    at = to;
  };
  pythonLanguage.parser.parse(code.slice(0, maxCode)).iterate({
    enter(node) {
      if (pieces.length >= maxPieces - 2) return false;
      const kind = kindOf(node.name);
      if (kind === '') return true;
      add(node.from, '');
      add(node.to, kind);
      return false;
    },
  });
  add(code.length, '');
  return pieces;
}

/** kindOf is the kind of a node of Lezer's grammar, in which a keyword is called by itself. */
function kindOf(name: string): Kind {
  switch (name) {
    case 'String':
    case 'FormatString':
      return 'string';
    case 'Number':
    case 'Boolean':
    case 'None':
      return 'number';
    case 'Comment':
      return 'comment';
    case 'self':
      return '';
  }
  return /^[a-z]+$/.test(name) ? 'keyword' : '';
}
