/** A library of documents: what is in it, questions to it, and the pages that the answers rest on. */
import { useEffect, useState } from 'preact/hooks';
import type { DocumentEntry } from '../../../src/archive/entries.js';
import { formatRate } from '../../../src/cli/format.js';
import { listModels, type ModelInfo } from '../api.js';
import { confirmed } from '../parts/confirmation.js';
import { connected } from '../parts/connection.js';
import { report } from '../parts/status.js';
import { AnswerView } from './answer-view.js';
import {
  askLibrary,
  documents,
  follow,
  hasMore,
  known,
  look,
  looking,
  remove,
  showMore,
  speed,
  totals,
  within,
} from './library.js';
import { PageView } from './page-view.js';
import { forgetUploadsOf } from './uploads.js';
import { UploadsView } from './uploads-view.js';

export function LibraryPage() {
  useEffect(() => follow(report), []);
  const now = totals.value;
  if (now === undefined) return <p class="page faint">{connected.value ? 'Looking for the library…' : ''}</p>;
  if (now === 'none') return <NoLibrary />;
  return (
    <div class="library">
      <Documents />
      <section class="asking" aria-label="Questions">
        <Ask />
        <AnswerView />
      </section>
      <PageView />
    </div>
  );
}

function NoLibrary() {
  return (
    <div class="page">
      <p>This server has no library. Start one in a terminal, then add your documents on this page:</p>
      <pre>heddle archive serve</pre>
      <p>To add a whole folder:</p>
      <pre>heddle archive add my-documents</pre>
    </div>
  );
}

function Documents() {
  const now = totals.value;
  if (now === undefined || now === 'none') return null;
  const read = Object.values(now.pages).reduce((a, b) => a + b, 0);
  const bad = (now.pages.failed ?? 0) + (now.pages.scanned ?? 0);
  const all = read + now.left;
  const unread = now.documents.failed;
  const isEmpty = Object.values(now.documents).every((count) => count === 0);
  return (
    <section class="documents" aria-label="Documents">
      <h2>Documents</h2>
      <p class="sub">
        {read.toLocaleString('en')} pages read
        {bad > 0 && `, ${bad.toLocaleString('en')} of them without text`}
      </p>
      {unread > 0 && (
        <p class="sub bad">
          {unread.toLocaleString('en')} document{unread === 1 ? '' : 's'} could not be read
        </p>
      )}
      {isEmpty && <p class="sub">No documents yet.</p>}
      <UploadsView />
      {now.left > 0 && (
        <div class="reading">
          <progress value={read} max={all} aria-label="Pages read" />
          <p class="sub">
            {now.left.toLocaleString('en')} left
            {speed.value !== undefined && ` · ${formatRate(speed.value, 'pages')}`}
          </p>
        </div>
      )}
      <ul>
        {documents.value.map((each) => (
          <DocumentLine key={each.content} document={each} />
        ))}
      </ul>
      {hasMore.value && (
        <button type="button" onClick={() => showMore().catch(report)}>
          Show more
        </button>
      )}
    </section>
  );
}

function DocumentLine({
  document: { content, name, state, why, pages, counts, paths, readings },
}: {
  document: DocumentEntry;
}) {
  const open = looking.value?.content === content;
  const bad = (counts.failed ?? 0) + (counts.scanned ?? 0);
  const done = Object.values(counts).reduce((a, b) => a + b, 0);
  const about =
    state === 'failed'
      ? (why ?? 'failed')
      : pages === null
        ? 'waiting'
        : state !== 'read'
          ? `${done.toLocaleString('en')} of ${pages.toLocaleString('en')} pages read`
          : `${pages.toLocaleString('en')} page${pages === 1 ? '' : 's'}${bad > 0 ? `, ${bad} without text` : ''}${readings.some((each) => each.state === 'read') ? ' · read by a model' : ''}`;
  return (
    <li class={open ? 'entry open' : 'entry'}>
      <button
        type="button"
        class="document"
        title={paths.join('\n')}
        aria-pressed={open}
        disabled={state === 'failed' || pages === null}
        onClick={() => look({ content, page: 1, boxes: [] })}
      >
        <strong>{name}</strong>
        <span class={state === 'failed' || bad > 0 ? 'sub bad' : 'sub'}>{about}</span>
      </button>
      <button
        type="button"
        class="remove"
        title="Remove"
        aria-label={`Remove ${name}`}
        onClick={() => removed(content, name).catch(report)}
      >
        ✕
      </button>
    </li>
  );
}

async function removed(content: string, name: string): Promise<void> {
  const question = {
    title: `Remove ${name}?`,
    text: 'Its text and what models have read of it are removed from the library. A file that was added on this page is deleted; a file elsewhere stays where it is.',
    action: 'Remove',
  };
  if (!(await confirmed(question))) return;
  await remove(content);
  forgetUploadsOf(content);
}

function Ask() {
  const [models, setModels] = useState<readonly ModelInfo[]>([]);
  useEffect(() => {
    listModels().then(setModels, report);
  }, []);
  const only = known(within.value);
  const chosen = only ?? known(looking.value?.content);
  const hasState = only?.readings.some(({ state }) => state === 'read') ?? false;
  return (
    <form
      class="ask"
      onSubmit={(event) => {
        event.preventDefault();
        const data = new FormData(event.currentTarget);
        const question = String(data.get('question')).trim();
        const model = data.get('model');
        if (question !== '') {
          askLibrary(
            question,
            String(data.get('from') ?? 'passages'),
            model === null ? undefined : String(model),
          ).catch(report);
        }
      }}
    >
      <label class="hidden" for="question">
        Question or words
      </label>
      <input
        id="question"
        name="question"
        type="search"
        placeholder="Ask, or search for words"
        autocomplete="off"
      />
      <button type="submit">Ask</button>
      <div class="choices">
        {chosen && (
          <label>
            <input
              type="checkbox"
              checked={within.value !== undefined}
              onChange={({ currentTarget: { checked } }) => {
                within.value = checked ? chosen.content : undefined;
              }}
            />
            only in {chosen.name}
          </label>
        )}
        {hasState && (
          <label>
            from{' '}
            <select name="from">
              <option value="passages">passages</option>
              <option value="state">the whole document</option>
              <option value="both">both</option>
            </select>
          </label>
        )}
        {models.length > 1 && (
          <label>
            model{' '}
            <select name="model">
              {models.map(({ id }) => (
                <option key={id}>{id}</option>
              ))}
            </select>
          </label>
        )}
      </div>
    </form>
  );
}
