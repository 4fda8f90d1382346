/** What strings of a known format look like, as patterns: what matches certainly has the format, if not the other way round. */

/** Days that each month has in any year. */
const DAY =
  '(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|02-(?:0[1-9]|1\\d|2[0-8]))';
const DATE = `[12]\\d{3}-${DAY}`;
const CLOCK = '(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d{1,9})?';
const ZONE = '(?:Z|[+-](?:0\\d|1[0-3]):[0-5]\\d)';
const LABEL = '[A-Za-z0-9](?:[A-Za-z0-9-]{0,30}[A-Za-z0-9])?';
const HOST = `(?:${LABEL}\\.){1,4}[A-Za-z]{2,12}`;
const LOCAL = '[A-Za-z0-9_](?:[A-Za-z0-9_+-]|\\.[A-Za-z0-9_]){0,40}';
const BYTE = '(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)';
const IPV4 = `${BYTE}(?:\\.${BYTE}){3}`;
const HEX = '[0-9a-fA-F]';
const WORD = `${HEX}{1,4}`;
const IPV6 = `(?:(?:${WORD}:){7}${WORD}|::(?:${WORD}(?::${WORD}){0,5})?|${WORD}::(?:${WORD}(?::${WORD}){0,4})?|(?:${WORD}:){2}:(?:${WORD}(?::${WORD}){0,3})?)`;
const SEGMENT = '[A-Za-z0-9._~-]{1,60}';
const URL = `https?://${HOST}(?::[1-9]\\d{1,3})?(?:/${SEGMENT}){0,8}/?(?:\\?[A-Za-z0-9._~=&-]{1,100})?(?:#${SEGMENT})?`;
const NUMBER = '(?:0|[1-9]\\d{0,5})';
const DURATION = `P(?:${NUMBER}W|(?=\\d|T\\d)(?:${NUMBER}Y)?(?:${NUMBER}M)?(?:${NUMBER}D)?(?:T(?=\\d)(?:${NUMBER}H)?(?:${NUMBER}M)?(?:${NUMBER}S)?)?)`;
/** Names of variables, references, keys. */
const TOKEN = '[A-Za-z0-9_.-]{0,40}';

/** Each with its ways, of which the first that goes with all else that is asked for is taken. */
const FORMATS: Readonly<Record<string, readonly string[]>> = {
  date: [DATE],
  // Programs write times of the day without a zone, which the standard asks for.
  time: [CLOCK + ZONE, CLOCK, '(?:[01]\\d|2[0-3]):[0-5]\\d'],
  'date-time': [`${DATE}T${CLOCK}${ZONE}`, `${DATE}T${CLOCK}`, `${DATE}T(?:[01]\\d|2[0-3]):[0-5]\\dZ?`],
  duration: [DURATION],
  email: [`${LOCAL}@${HOST}`],
  'idn-email': [`${LOCAL}@${HOST}`],
  hostname: [HOST],
  'idn-hostname': [HOST],
  ipv4: [IPV4],
  ipv6: [IPV6],
  ip: [IPV4, IPV6],
  uuid: [
    `${HEX}{8}-${HEX}{4}-[1-8]${HEX}{3}-[89abAB]${HEX}{3}-${HEX}{12}`,
    `${HEX}{8}(?:-${HEX}{4}){3}-${HEX}{12}`,
  ],
  uri: [URL, '[a-z][a-z0-9+.-]{1,12}:[A-Za-z0-9._~/:@-]{1,100}'],
  url: [URL],
  iri: [URL],
  'uri-reference': [URL, `(?:/${SEGMENT}){1,8}`],
  'iri-reference': [URL, `(?:/${SEGMENT}){1,8}`],
  'uri-template': [URL],
  'json-pointer': [`(?:/${TOKEN}){0,8}`],
  'relative-json-pointer': [`(?:0|[1-9]\\d{0,2})(?:#|(?:/${TOKEN}){0,8})`],
  'json-pointer-uri-fragment': [`#(?:/${TOKEN}){0,8}`],
  regex: ['[A-Za-z0-9 _-]{0,60}'],
  byte: ['(?:[A-Za-z0-9+/]{4}){0,200}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?'],
};

/** The ways in which a format's strings may look, each a pattern of whole strings; undefined for a format that is not known. */
export function patternsOfFormat(format: string): readonly string[] | undefined {
  if (!Object.hasOwn(FORMATS, format)) return undefined;
  return FORMATS[format]!.map((way) => `^(?:${way})$`);
}

/** The least and the greatest number of a format, if it has bounds within those of a double's whole numbers. */
export function boundsOfFormat(format: string): readonly [least: number, most: number] | undefined {
  const [, unsigned, bits] = /^(u?)int(8|16|32|64)$/.exec(format) ?? [];
  if (bits === undefined) return undefined;
  const size = Number(bits);
  if (size === 64) return unsigned ? [0, Number.MAX_SAFE_INTEGER] : undefined;
  return unsigned ? [0, 2 ** size - 1] : [-(2 ** (size - 1)), 2 ** (size - 1) - 1];
}
