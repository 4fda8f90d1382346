/** Dates in the format of C's strftime, always in English. */
import { spend, spendText } from './budget.js';

const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'];
const MONTHS = [
  'January',
  'February',
  'March',
  'April',
  'May',
  'June',
  'July',
  'August',
  'September',
  'October',
  'November',
  'December',
];

const padded = (value: number, width = 2, fill = '0'): string => String(value).padStart(width, fill);

/** Counted from 1. */
const dayOfYear = (at: Date): number =>
  Math.round(
    (Date.UTC(at.getFullYear(), at.getMonth(), at.getDate()) - Date.UTC(at.getFullYear(), 0, 0)) / 864e5,
  );

const hour12 = (at: Date): number => at.getHours() % 12 || 12;

const DIRECTIVES: ReadonlyMap<string, (at: Date) => string> = new Map<string, (at: Date) => string>([
  ['a', (at) => DAYS[at.getDay()]!.slice(0, 3)],
  ['A', (at) => DAYS[at.getDay()]!],
  ['b', (at) => MONTHS[at.getMonth()]!.slice(0, 3)],
  ['h', (at) => MONTHS[at.getMonth()]!.slice(0, 3)],
  ['B', (at) => MONTHS[at.getMonth()]!],
  ['c', (at) => strftime(at, '%a %b %e %H:%M:%S %Y')],
  ['C', (at) => padded(Math.floor(at.getFullYear() / 100))],
  ['d', (at) => padded(at.getDate())],
  ['D', (at) => strftime(at, '%m/%d/%y')],
  ['e', (at) => padded(at.getDate(), 2, ' ')],
  ['f', (at) => padded(at.getMilliseconds() * 1000, 6)],
  ['F', (at) => strftime(at, '%Y-%m-%d')],
  ['H', (at) => padded(at.getHours())],
  ['I', (at) => padded(hour12(at))],
  ['j', (at) => padded(dayOfYear(at), 3)],
  ['k', (at) => padded(at.getHours(), 2, ' ')],
  ['l', (at) => padded(hour12(at), 2, ' ')],
  ['m', (at) => padded(at.getMonth() + 1)],
  ['M', (at) => padded(at.getMinutes())],
  ['n', () => '\n'],
  ['p', (at) => (at.getHours() < 12 ? 'AM' : 'PM')],
  ['P', (at) => (at.getHours() < 12 ? 'am' : 'pm')],
  ['r', (at) => strftime(at, '%I:%M:%S %p')],
  ['R', (at) => strftime(at, '%H:%M')],
  ['s', (at) => String(Math.floor(at.getTime() / 1000))],
  ['S', (at) => padded(at.getSeconds())],
  ['t', () => '\t'],
  ['T', (at) => strftime(at, '%H:%M:%S')],
  ['u', (at) => String(at.getDay() || 7)],
  ['U', (at) => padded(Math.floor((dayOfYear(at) + 6 - at.getDay()) / 7))],
  ['w', (at) => String(at.getDay())],
  ['W', (at) => padded(Math.floor((dayOfYear(at) + 6 - ((at.getDay() + 6) % 7)) / 7))],
  ['x', (at) => strftime(at, '%m/%d/%y')],
  ['X', (at) => strftime(at, '%H:%M:%S')],
  ['y', (at) => padded(at.getFullYear() % 100)],
  ['Y', (at) => padded(at.getFullYear(), 4)],
  // `datetime.now()`, which `strftime_now` writes, has no time zone.
  ['z', () => ''],
  ['Z', () => ''],
  ['%', () => '%'],
]);

/** `%-d` is `%d` without padding, `%_d` is padded with blanks, `%^a` is in upper case. Unknown directives are kept. */
export function strftime(at: Date, format: string): string {
  spendText(format.length, 32);
  return format.replace(/%([-_^]?)([a-zA-Z%])/g, (whole: string, flag: string, letter: string) => {
    spend(16);
    const text = DIRECTIVES.get(letter)?.(at);
    if (text === undefined) return whole;
    if (flag === '^') return text.toUpperCase();
    if (flag === '-') return text.replace(/^[0 ]+(?=\d)/, '');
    return flag === '_' ? text.replace(/^0+(?=\d)/, (zeros) => ' '.repeat(zeros.length)) : text;
  });
}
