// Numbers and times as text.

const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];

// bytes returns a number of bytes with three digits or so.
export function bytes(n) {
  let unit = 0;
  while (n >= 999.5 && unit < units.length - 1) {
    n /= 1000;
    unit++;
  }
  return `${n.toFixed(unit > 0 && n < 9.95 ? 1 : 0)} ${units[unit]}`;
}

// rate returns bytes a second.
export function rate(n) {
  return `${bytes(n)}/s`;
}

// duration returns a time in seconds with the two largest units.
export function duration(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
}

// millis returns a short time in seconds as milliseconds.
export function millis(seconds) {
  const ms = seconds * 1000;
  return `${ms.toFixed(ms < 10 ? 1 : 0)} ms`;
}

// clock returns the time of day of a date.
export function clock(date) {
  return date.toLocaleTimeString([], { hour12: false });
}

// since returns the seconds from one time in RFC 3339 to another.
export function since(from, now) {
  return (Date.parse(now) - Date.parse(from)) / 1000;
}
