/** The text of a program: instructions in nested regions, with common subexpression elimination. */
import { type Element, type Plain, typeText } from './value.js';

/** The instructions of a region, and its results by the text of their instruction. */
interface Region {
  readonly lines: string[];
  readonly known: Map<string, Plain>;
  readonly knownTogether: Map<string, Plain[]>;
}

function newRegion(): Region {
  return { lines: [], known: new Map(), knownTogether: new Map() };
}

/** The text of a StableHLO function under construction. */
export class HloText {
  private readonly regions: Region[] = [newRegion()];
  private names = 0;

  /** The instructions of the outermost region. */
  get lines(): readonly string[] {
    return this.regions[0]!.lines;
  }

  /** An argument of the function or of a region. */
  argument(element: Element, dims: readonly number[], isWeak = false, id = this.name()): Plain {
    return { kind: 'plain', id, element, dims, isWeak };
  }

  name(): string {
    return `%${this.names++}`;
  }

  /** Adds an instruction with one result, or returns the result of an equal one. */
  emit(instruction: string, element: Element, dims: readonly number[], isWeak = false): Plain {
    for (const { known } of this.regions) {
      const same = known.get(instruction);
      if (same) return same;
    }
    const value = this.argument(element, dims, isWeak);
    const { lines, known } = this.regions.at(-1)!;
    lines.push(`${value.id} = ${instruction}`);
    known.set(instruction, value);
    return value;
  }

  /** The same with several results of these types. */
  emitAll(instruction: string, types: readonly Pick<Plain, 'element' | 'dims'>[]): Plain[] {
    for (const { knownTogether } of this.regions) {
      const same = knownTogether.get(instruction);
      if (same) return same;
    }
    const id = this.name();
    const { lines, knownTogether } = this.regions.at(-1)!;
    lines.push(`${id}:${types.length} = ${instruction}`);
    const values = types.map(({ element, dims }, i) => this.argument(element, dims, false, `${id}#${i}`));
    knownTogether.set(instruction, values);
    return values;
  }

  /** The instructions that `build` adds, as the text of a region that returns its results. */
  region(build: () => readonly Plain[]): string {
    this.regions.push(newRegion());
    try {
      const results = build();
      const { lines } = this.regions.at(-1)!;
      return [
        ...lines,
        `stablehlo.return ${results.map(({ id }) => id).join(', ')} : ${results.map(typeOf).join(', ')}`,
      ]
        .map((line) => `${line}\n`)
        .join('');
    } finally {
      this.regions.pop();
    }
  }
}

/** How a value is cut over the devices of the mesh, in Shardy's syntax: along `axis`, or not at all. */
export function shardingText(dims: readonly number[], axis: number | undefined): string {
  return `<@mesh, [${dims.map((_, i) => (i === axis ? '{"devices"}' : '{}')).join(', ')}]>`;
}

/** The type of a value in StableHLO's syntax, such as `tensor<2x3xf32>`. */
export function typeOf({ element, dims }: Pick<Plain, 'element' | 'dims'>): string {
  return typeText(element, dims);
}
