/** The text of a program: instructions in regions, of which none is written twice where its result is known. */
import { type Element, type Plain, typeText } from './value.js';

/** Instructions of a region, with what was computed there by its text. */
interface Region {
  readonly lines: string[];
  readonly known: Map<string, Plain>;
  readonly knownTogether: Map<string, Plain[]>;
}

function newRegion(): Region {
  return { lines: [], known: new Map(), knownTogether: new Map() };
}

/** The text of a StableHLO function as it grows: instructions, names of values, and regions within. */
export class HloText {
  private readonly regions: Region[] = [newRegion()];
  private names = 0;

  /** The instructions of the outermost region. */
  get lines(): readonly string[] {
    return this.regions[0]!.lines;
  }

  /** An argument, or a value that a region is given. */
  argument(element: Element, dims: readonly number[], isWeak = false, id = this.name()): Plain {
    return { kind: 'plain', id, element, dims, isWeak };
  }

  name(): string {
    return `%${this.names++}`;
  }

  /** Adds an instruction with one result. The same one is not computed twice. */
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

/** The type of a value as StableHLO writes it, such as `tensor<2x3xf32>`. */
export function typeOf({ element, dims }: Pick<Plain, 'element' | 'dims'>): string {
  return typeText(element, dims);
}
