/** Finding a model in a browser's tab: it lies where it was loaded to. */

/** See `modelFolder` of Node. */
export function modelFolder(name: string): string {
  return name;
}
