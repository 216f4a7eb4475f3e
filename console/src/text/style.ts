// Select Graphic Rendition (ECMA-48, 8.3.117): what a style is, and how parameters change it.

/** Style of text. A colour is 0 to 255 of the palette, or "#rrggbb". Undefined is the default. */
export interface Style {
  readonly fg?: number | string;
  readonly bg?: number | string;
  readonly bold?: boolean;
  readonly dim?: boolean;
  readonly italic?: boolean;
  readonly underline?: boolean;
  readonly strike?: boolean;
  readonly inverse?: boolean;
}

export const plain: Style = {};

type Mutable = { -readonly [K in keyof Style]: Style[K] };

/** styled returns the style that the parameters of "CSI … m" make of one. */
export function styled(style: Style, params: string): Style {
  const codes = params.split(/[;:]/).map((p) => (p === '' ? 0 : Number(p)));
  let s: Mutable = { ...style };
  for (let i = 0; i < codes.length; i++) {
    const code = codes[i] ?? 0;
    if (code === 0) s = {};
    else if (code === 38 || code === 48) {
      const [colour, used] = extended(codes, i + 1);
      if (colour !== undefined) s[code === 38 ? 'fg' : 'bg'] = colour;
      i += used;
    } else simple(s, code);
  }
  return Object.keys(s).length === 0 ? plain : s;
}

function simple(s: Mutable, code: number): void {
  if (code >= 30 && code <= 37) s.fg = code - 30;
  else if (code >= 90 && code <= 97) s.fg = code - 90 + 8;
  else if (code >= 40 && code <= 47) s.bg = code - 40;
  else if (code >= 100 && code <= 107) s.bg = code - 100 + 8;
  else if (code === 39) delete s.fg;
  else if (code === 49) delete s.bg;
  else if (code === 1) s.bold = true;
  else if (code === 2) s.dim = true;
  else if (code === 22) {
    delete s.bold;
    delete s.dim;
  } else flag(s, code);
}

const flags: Record<number, 'italic' | 'underline' | 'inverse' | 'strike'> = { 3: 'italic', 4: 'underline', 7: 'inverse', 9: 'strike' };

function flag(s: Mutable, code: number): void {
  const on = flags[code];
  const off = flags[code - 20];
  if (on) s[on] = true;
  else if (off) delete s[off];
}

/** extended reads what follows 38 or 48: 5;N or 2;R;G;B. It returns how many codes it took, too. */
function extended(codes: number[], at: number): [number | string | undefined, number] {
  const byte = (n: number | undefined) => (n !== undefined && Number.isInteger(n) && n >= 0 && n <= 255 ? n : undefined);
  if (codes[at] === 5) return [byte(codes[at + 1]), 2];
  if (codes[at] !== 2) return [undefined, 0];
  const rgb = [byte(codes[at + 1]), byte(codes[at + 2]), byte(codes[at + 3])];
  if (rgb.includes(undefined)) return [undefined, 4];
  return ['#' + rgb.map((n) => (n ?? 0).toString(16).padStart(2, '0')).join(''), 4];
}

/** hex returns a colour of the palette from 16 on, which no theme changes. */
export function hex(colour: number): string {
  if (colour >= 232) return '#' + (8 + (colour - 232) * 10).toString(16).padStart(2, '0').repeat(3);
  const n = colour - 16;
  const level = (v: number) => (v === 0 ? 0 : 55 + v * 40).toString(16).padStart(2, '0');
  return '#' + level(Math.floor(n / 36)) + level(Math.floor(n / 6) % 6) + level(n % 6);
}
