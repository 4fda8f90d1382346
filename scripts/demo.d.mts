export function buildDemo(folder?: string): Promise<string>;
