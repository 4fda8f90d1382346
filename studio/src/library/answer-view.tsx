/** An answer with what it cites, and the passages that were found for it. */
import type { Citation, Hit } from '../../../src/archive/entries.js';
import { answer, look, looking, stopAsking } from './library.js';

export function AnswerView() {
  const now = answer.value;
  if (!now) return <p class="faint">What is found stands here, and the page that it is on beside it.</p>;
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

/** The text with its marks as buttons that open what they cite. */
function marked(text: string, hits: readonly Hit[], citations: readonly Citation[]) {
  return text.split(/(\[[^\]]*\d[^\]]*\])/).map((part, i) => {
    const cited = citations.find(({ mark }) => mark === part);
    const number = Number(/^\[\s*(\d+)\s*\]$/.exec(part)?.[1]);
    const hit = cited?.hit ?? hits[number - 1];
    const target = hit ?? (cited && { ...cited, boxes: [] });
    if (!target) return part;
    return (
      <button key={i} type="button" class="mark" onClick={() => look(target)}>
        {part}
      </button>
    );
  });
}
