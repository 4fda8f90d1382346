import type { RolldownOutput } from 'rolldown';
export function bundleForBrowser(folder?: string): Promise<RolldownOutput['output']>;
