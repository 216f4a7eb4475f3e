// Times and sizes as people read them: one place, so that all screens agree.

import { text } from './text';

/** span says a number of seconds in its largest unit. */
export function span(seconds: number): string {
  const s = Math.max(seconds, 0);
  if (s < 1) return text.time.now;
  if (s < 60) return text.time.seconds(Math.floor(s));
  if (s < 3600) return text.time.minutes(Math.floor(s / 60));
  if (s < 86_400) return text.time.hours(Math.floor(s / 3600));
  return text.time.days(Math.floor(s / 86_400));
}

/** duration says how long something took, in seconds. */
export function duration(seconds: number): string {
  if (seconds < 0.001) return '<1 ms';
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds.toFixed(2)} s`;
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

export const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']; // of bytes, each 1024 times the one before

export function bytes(n: number): string {
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) {
    n /= 1024;
    unit++;
  }
  return `${unit === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)} ${units[unit]}`;
}

/** moment is the absolute time behind a relative one, local and UTC. */
export function moment(time: string): string {
  const at = new Date(time);
  return Number.isNaN(at.valueOf()) ? time : `${at.toLocaleString()} (${at.toISOString()})`;
}
