/**
 * BLEU and chrF of a whole corpus, as sacrebleu defines them (Post, 2018, arXiv 1804.08771): BLEU of up to four words (Papineni et al.,
 * 2002) by the tokenizer of WMT's mteval-v13a with exponential smoothing, and chrF2 of up to six characters without spaces (Popović, 2015).
 * Both range from 0 to 100. `references` has one or several lists, each as long as `translations`.
 */

/** BLEU of a corpus, from 0 to 100. */
export function bleu(translations: readonly string[], references: readonly (readonly string[])[]): number {
  const [right, all] = [
    [0, 0, 0, 0],
    [0, 0, 0, 0],
  ];
  let [length, closest] = [0, 0];
  for (const [i, translation] of translations.entries()) {
    const words = tokens13a(translation);
    const told = references.map((list) => tokens13a(list[i]!));
    length += words.length;
    // Of two lengths at the same distance, the shorter one.
    const [nearest] = told
      .map((reference) => reference.length)
      .sort((a, b) => Math.abs(a - words.length) - Math.abs(b - words.length) || a - b);
    closest += nearest!;
    for (let order = 1; order <= 4; order++) {
      const most = told.map((reference) => countsOf(reference, order));
      for (const [gram, count] of countsOf(words, order)) {
        right[order - 1]! += Math.min(count, Math.max(...most.map((counts) => counts.get(gram) ?? 0)));
        all[order - 1]! += count;
      }
    }
  }
  if (length === 0 || all[3] === 0 || right[0] === 0) return 0;
  let [smoothing, sum] = [1, 0];
  for (let order = 0; order < 4; order++) {
    // Exponential smoothing: each precision of 0 is replaced by 1 / (2^k count), with k zeros so far.
    if (right[order] === 0) smoothing *= 2;
    const precision = right[order] === 0 ? 1 / (smoothing * all[order]!) : right[order]! / all[order]!;
    sum += Math.log(precision);
  }
  const brevity = length < closest ? Math.exp(1 - closest / length) : 1;
  return 100 * brevity * Math.exp(sum / 4);
}

const MOST_CHARACTERS = 6;
/** Recall counts beta squared times as much as precision. */
const BETA = 2;

/** chrF2 of a corpus, from 0 to 100. */
export function chrF(translations: readonly string[], references: readonly (readonly string[])[]): number {
  const totals = emptyCounts();
  for (const [i, translation] of translations.entries()) {
    const own = [...translation.replace(/\s/g, '')];
    const candidates = references.map((list) => characterCounts(own, [...list[i]!.replace(/\s/g, '')]));
    const best = candidates.reduce((a, b) => (fScore(b) > fScore(a) ? b : a));
    for (const [order, counts] of best.entries())
      for (const [k, value] of counts.entries()) totals[order]![k]! += value;
  }
  return 100 * fScore(totals);
}

/** Counts by order: matches, n-grams of the translation, n-grams of the reference. */
type Counts = [number, number, number][];

function emptyCounts(): Counts {
  return Array.from({ length: MOST_CHARACTERS }, () => [0, 0, 0]);
}

function characterCounts(own: readonly string[], reference: readonly string[]): Counts {
  return emptyCounts().map((_, i) => {
    const [mine, theirs] = [countsOf(own, i + 1), countsOf(reference, i + 1)];
    const right = [...mine].reduce((sum, [gram, count]) => sum + Math.min(count, theirs.get(gram) ?? 0), 0);
    const size = (counts: Map<string, number>): number => [...counts.values()].reduce((a, b) => a + b, 0);
    return [right, size(mine), size(theirs)];
  });
}

/** The F score of mean precision and mean recall, over the orders for which both texts are long enough. */
function fScore(counts: Counts): number {
  const known = counts.filter(([, own, reference]) => own > 0 && reference > 0);
  if (known.length === 0) return 0;
  const mean = (of: (counts: Counts[number]) => number): number =>
    known.reduce((sum, each) => sum + of(each), 0) / known.length;
  const [precision, recall] = [mean(([right, own]) => right / own), mean(([right, , all]) => right / all)];
  const weighted = BETA ** 2 * precision + recall;
  return weighted === 0 ? 0 : ((1 + BETA ** 2) * precision * recall) / weighted;
}

function countsOf(parts: readonly string[], order: number): Map<string, number> {
  const counts = new Map<string, number>();
  for (let i = 0; i + order <= parts.length; i++) {
    const gram = parts.slice(i, i + order).join(' ');
    counts.set(gram, (counts.get(gram) ?? 0) + 1);
  }
  return counts;
}

/** The tokenizer of mteval-v13a: punctuation is separated, except points and commas within numbers. */
function tokens13a(text: string): string[] {
  const plain = text
    .replaceAll('<skipped>', '')
    .replaceAll('-\n', '')
    .replaceAll('\n', ' ')
    .replaceAll('&quot;', '"')
    .replaceAll('&amp;', '&')
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>');
  return ` ${plain} `
    .replace(/([{-~[-` -&(-+:-@/])/g, ' $1 ')
    .replace(/([^0-9])([.,])/g, '$1 $2 ')
    .replace(/([.,])([^0-9])/g, ' $1 $2')
    .replace(/([0-9])(-)/g, '$1 $2 ')
    .split(/\s+/)
    .filter((word) => word !== '');
}
