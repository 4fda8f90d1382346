/** The value of a JSON text; undefined if it is invalid, for example truncated. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
