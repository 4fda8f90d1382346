/** Adding documents to the library: files are chosen, or dropped anywhere on the page. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { known, look } from './library.js';
import { clearUploads, type Upload, upload, uploads } from './uploads.js';

/** A button that files are chosen with, and those that were. */
export function UploadsView() {
  const input = useRef<HTMLInputElement>(null);
  const isOver = useDropping();
  const all = uploads.value;
  const isBusy = all.some(({ state }) => state === 'waiting' || state === 'sending');
  return (
    <div class={isOver ? 'adding over' : 'adding'}>
      <button type="button" onClick={() => input.current?.click()}>
        Add documents
      </button>
      <input
        ref={input}
        hidden
        type="file"
        multiple
        accept=".pdf,.docx,.html,.htm,.xhtml,.md,.markdown,.txt,.text,.rst,.log"
        onChange={({ currentTarget }) => {
          upload([...(currentTarget.files ?? [])]);
          currentTarget.value = '';
        }}
      />
      <p class="sub">
        {isOver ? 'Drop them here' : 'or drop files on this page: PDF, Word, HTML, Markdown, text'}
      </p>
      {all.length > 0 && (
        <ul aria-label="Documents that are added" aria-live="polite">
          {all.map((each) => (
            <UploadLine key={each.id} upload={each} />
          ))}
        </ul>
      )}
      {all.length > 0 && !isBusy && (
        <button type="button" onClick={clearUploads}>
          Clear the list
        </button>
      )}
    </div>
  );
}

function UploadLine({ upload: { name, state, share, why, content } }: { upload: Upload }) {
  const document = known(content);
  const isUnreadable = state === 'added' && document?.state === 'failed';
  const said = {
    waiting: 'waits',
    sending: `${Math.floor(100 * share)} % sent`,
    added: isUnreadable
      ? `added, cannot be read: ${document.why}`
      : document?.state === 'read'
        ? 'added and read'
        : 'added, is being read',
    known: 'was in the library already',
    failed: why,
  }[state];
  return (
    <li>
      {document && document.pages !== null ? (
        <button
          type="button"
          class="name"
          onClick={() => look({ content: document.content, page: 1, boxes: [] })}
        >
          {name}
        </button>
      ) : (
        <span class="name">{name}</span>
      )}
      {state === 'sending' && <progress value={share} aria-label={`${name}, sent`} />}
      <span class={state === 'failed' || isUnreadable ? 'sub bad' : 'sub'}>{said}</span>
    </li>
  );
}

/** Whether files are held over the page; where they are dropped, they are uploaded. */
function useDropping(): boolean {
  const [isOver, setOver] = useState(false);
  useEffect(() => {
    const hasFiles = (event: DragEvent): boolean => event.dataTransfer?.types.includes('Files') ?? false;
    const over = (event: DragEvent): void => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      setOver(true);
    };
    const leave = (event: DragEvent): void => {
      // Between two elements of the page there is a related one.
      if (event.relatedTarget === null) setOver(false);
    };
    const drop = (event: DragEvent): void => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      setOver(false);
      upload([...event.dataTransfer!.files]);
    };
    globalThis.addEventListener('dragover', over);
    globalThis.addEventListener('dragleave', leave);
    globalThis.addEventListener('drop', drop);
    return () => {
      globalThis.removeEventListener('dragover', over);
      globalThis.removeEventListener('dragleave', leave);
      globalThis.removeEventListener('drop', drop);
    };
  }, []);
  return isOver;
}
