export const NODE: Record<string, string>;
export const BROWSER: Record<string, string>;
