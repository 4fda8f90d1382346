/** The log: a line of JSON for each thing that happened, without what people said unless that was asked for. */

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
