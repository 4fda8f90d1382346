/** An answer with what it cites, and the passages that were found for it. */
import { namedIn } from '../../../src/archive/citations.js';
import type { Citation, Hit } from '../../../src/archive/entries.js';
import { answer, look, looking, stopAsking } from './library.js';

export function AnswerView() {
  const now = answer.value;
  if (!now) return <p class="faint">Answers appear here, with the page that they cite beside them.</p>;
  const { question, text, notices, hits, missing, citations, unknown, busy } = now;
  return (
    <article class="findings" aria-busy={busy}>
      <h2>{question}</h2>
      {text !== '' && <p class="text">{marked(text, hits, citations)}</p>}
      {busy && (
        <button type="button" onClick={stopAsking}>
          Stop
        </button>
      )}
      {notices.map((notice) => (
        <p key={notice} class="sub">
          {notice}
        </p>
      ))}
      {missing.length > 0 && <p class="sub bad">Not in the library: {missing.join(', ')}</p>}
      {unknown.length > 0 && (
        <p class="sub bad">Cited, but not among what it was given: {unknown.join(' ')}</p>
      )}
      {citations.some(({ supported }) => !supported) && (
        <p class="sub bad">
          {citations
            .filter(({ supported }) => !supported)
            .map(({ mark }) => mark)
            .join(' ')}
          : the words of the statement do not stand there
        </p>
      )}
      {!busy && hits.length === 0 && text === '' && <p class="faint">Nothing has these words.</p>}
      <ol class="hits">
        {hits.map((hit, i) => (
          <HitView key={hit.passage} hit={hit} number={i + 1} />
        ))}
      </ol>
    </article>
  );
}

function HitView({ hit, number }: { hit: Hit; number: number }) {
  const { name, page, heading, text, content, boxes } = hit;
  const open =
    looking.value?.content === content && looking.value.page === page && looking.value.boxes === boxes;
  return (
    <li>
      <button type="button" class={open ? 'hit open' : 'hit'} aria-pressed={open} onClick={() => look(hit)}>
        <span class="place">
          [{number}] {name}, page {page}
        </span>
        {heading !== '' && !text.startsWith(heading) && (
          <span class="sub">{heading.replaceAll('\n', ' / ')}</span>
        )}
        <span class="excerpt">{text}</span>
      </button>
    </li>
  );
}

/** The text with its marks as buttons that open what they cite; of several things that one mark names, each is a button. */
function marked(text: string, hits: readonly Hit[], citations: readonly Citation[]) {
  return text
    .split(/([[(【〔［（][^[\]()【】〔〕［］（）\n]*\d[^[\]()【】〔〕［］（）\n]*[\])】〕］）])/)
    .map((part, i) => {
      const named = i % 2 === 1 ? (namedIn(part.slice(1, -1)) ?? []) : [];
      const targets = named.flatMap(({ kind, number }) => {
        const passage = kind === 'page' ? undefined : hits[number - 1];
        const mark = kind === 'passage' || passage ? `[${number}]` : `[page ${number}]`;
        const cited = citations.find((each) => each.mark === mark);
        // In parentheses there are numbers that cite nothing.
        if (!cited && /^[(（]/.test(part)) return [];
        const target = cited?.hit ?? passage ?? (cited && { ...cited, boxes: [] });
        return target ? [{ target, mark }] : [];
      });
      if (targets.length === 0) return part;
      return targets.map(({ target, mark }, j) => (
        <button key={`${i}-${j}`} type="button" class="mark" onClick={() => look(target)}>
          {targets.length === 1 ? part : mark}
        </button>
      ));
    });
}
