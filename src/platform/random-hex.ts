/**
 * So many random bytes as hexadecimal digits, for new names. `crypto.randomUUID` exists only where a page is secure, which one that is opened
 * over plain HTTP on a local network is not; `getRandomValues` exists everywhere.
 */
export function randomHex(bytes: number): string {
  const values = crypto.getRandomValues(new Uint8Array(bytes));
  return Array.from(values, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
