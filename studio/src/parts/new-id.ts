/**
 * A new random id. `crypto.randomUUID` exists only where the page is secure, which one that is opened over plain HTTP on a local
 * network is not; `getRandomValues` exists everywhere.
 */
export function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
