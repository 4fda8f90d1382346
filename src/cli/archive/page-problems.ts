/** Pages that could not be read: consecutive pages with the same reason share a line. */

interface Run {
  readonly first: number;
  last: number;
  readonly why: string;
}

/** Collects such pages, and reports them in lines such as `a.pdf, pages 3 to 64: it is damaged`. */
export class PageProblems {
  private readonly runs = new Map<string, Run[]>();

  constructor(private readonly say: (line: string) => void) {}

  /** Notes a page. Pages of a document may come in any order, since several processes read it. */
  add(path: string, page: number, why: string): void {
    const runs = this.runs.get(path) ?? [];
    const before = runs.find((run) => run.last === page - 1 && run.why === why);
    if (before) before.last = page;
    else runs.push({ first: page, last: page, why });
    this.runs.set(path, runs);
  }

  /** Reports the pages of these documents, or of all if none is named. */
  flush(...paths: readonly string[]): void {
    for (const path of paths.length > 0 ? paths : [...this.runs.keys()]) {
      const runs = this.runs.get(path) ?? [];
      this.runs.delete(path);
      const joined: Run[] = [];
      for (const run of runs.sort((a, b) => a.first - b.first)) {
        const before = joined.at(-1);
        if (before && before.last === run.first - 1 && before.why === run.why) before.last = run.last;
        else joined.push(run);
      }
      for (const { first, last, why } of joined)
        this.say(`${path}, ${first === last ? `page ${first}` : `pages ${first} to ${last}`}: ${why}`);
    }
  }
}
