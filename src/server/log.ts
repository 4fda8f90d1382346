/** The log: a line of JSON for each event, without the contents of conversations unless they are enabled. */

/** Writes one JSON object a line. */
export class Log {
  constructor(
    private readonly out: (line: string) => void,
    /** Whether prompts and answers are logged too. */
    readonly texts: boolean,
  ) {}

  write(event: string, facts: Readonly<Record<string, unknown>> = {}): void {
    this.out(`${JSON.stringify({ time: new Date().toISOString(), event, ...facts })}\n`);
  }
}
