/**
 * `bytes` random bytes as hexadecimal digits, for new ids. `crypto.randomUUID` exists only in secure contexts, which excludes a page opened
 * over plain HTTP in a local network; `getRandomValues` exists everywhere.
 */
export function randomHex(bytes: number): string {
  const values = crypto.getRandomValues(new Uint8Array(bytes));
  return Array.from(values, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
