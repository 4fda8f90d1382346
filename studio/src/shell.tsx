/** The frame of the studio's pages. */
import { useEffect, useRef } from 'preact/hooks';
import { keepKey, keptKey } from './api.js';
import { ChatPage } from './chat/chat-page.js';
import { InsidePage } from './inside/inside-page.js';
import { LibraryPage } from './library/library-page.js';
import { announcement } from './parts/announcement.js';
import { Confirmation } from './parts/confirmation.js';
import { connected, tryAgain, trying } from './parts/connection.js';
import { Frame } from './parts/frame.js';
import { page } from './parts/route.js';
import { locked } from './parts/status.js';
import { RunsPage } from './runs/runs-page.js';

const PAGES = {
  chat: { name: 'Chat', Page: ChatPage },
  library: { name: 'Library', Page: LibraryPage },
  runs: { name: 'Runs', Page: RunsPage },
  inside: { name: 'Look inside', Page: InsidePage },
} as const;

export function Shell() {
  const { name } = PAGES[page.value];
  useEffect(() => {
    document.title = `${name} · Heddle studio`;
  }, [name]);
  return (
    <>
      <Frame title="studio" pages={PAGES} page={page.value}>
        {!connected.value && (
          <div class="problem" role="alert">
            <span>No connection to the server: trying again…</span>
            <button type="button" disabled={trying.value} onClick={tryAgain}>
              Retry
            </button>
          </div>
        )}
        {locked.value && <KeyForm />}
      </Frame>
      <div class="hidden" role="status">
        {announcement.value}
      </div>
      <Confirmation />
    </>
  );
}

/** Asks for a key; one that was entered before is not, or no longer, known to the server. */
function KeyForm() {
  const field = useRef<HTMLInputElement>(null);
  // Nothing else works before.
  useEffect(() => field.current!.focus(), []);
  const isRefused = keptKey() !== undefined;
  return (
    <form
      class="problem"
      onSubmit={(event) => {
        event.preventDefault();
        keepKey(field.current!.value.trim());
        location.reload();
      }}
    >
      <label>
        {isRefused
          ? 'The server does not accept that API key. Enter another'
          : 'This server needs an API key'}{' '}
        <input
          ref={field}
          type="password"
          autocomplete="off"
          required
          // Other characters cannot be sent.
          pattern="\s*[!-~]+\s*"
          title="A key has no spaces, and no letters with accents"
        />
      </label>
      <button type="submit">Use it</button>
      <span>
        Whoever runs the server makes one with <code>heddle key</code>
      </span>
    </form>
  );
}
