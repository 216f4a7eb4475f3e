// What the frame of hostile output may say to the page: that it is ready, how high it is, what went wrong, and which link was clicked.

export const maxHeight = 4000; // pixels
const maxError = 1000; // characters
const maxLink = 2000; // characters

export type Heard = { ready: true } | { height: number } | { error: string } | { link: string };

/** heard reads a message; null for anything that the frame has no business to say. */
export function heard(data: unknown): Heard | null {
  if (typeof data !== 'object' || data === null) return null;
  const { ready, height, error, link } = data as Record<string, unknown>;
  if (ready === true) return { ready };
  if (typeof height === 'number' && Number.isFinite(height)) return { height: Math.min(Math.max(Math.ceil(height), 0), maxHeight) };
  if (typeof error === 'string') return { error: error.slice(0, maxError) };
  if (typeof link === 'string' && link.length <= maxLink && /^(https?:\/\/|mailto:)/i.test(link) && URL.canParse(link)) return { link: new URL(link).href };
  return null;
}
