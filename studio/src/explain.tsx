/**
 * The page that `heddle explain --out` writes: the studio's inside view of a trace that is embedded in the page. The page
 * makes no requests.
 */
import './style/base.css';
import './style/shell.css';
import './style/plot.css';
import './style/inside.css';
import { render } from 'preact';
import type { TraceJson } from '../../src/inspect/trace.js';
import mark from './heddle.svg';
import { reveal } from './inside/inside.js';
import { colouring, TraceView } from './inside/inside-page.js';
import { ThemeButton } from './parts/theme-button.js';

/** The id of the element with the trace: gzipped JSON in base64. */
const HOLDER = 'trace';

async function heldTrace(): Promise<TraceJson> {
  const text = document.getElementById(HOLDER)!.textContent!.trim();
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const json = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
  return (await new Response(json).json()) as TraceJson;
}

function Page() {
  return (
    <>
      <a class="skip" href="#main">
        Skip to the page
      </a>
      <header class="top">
        <div class="brand grow">
          <img src={mark} alt="Heddle" width="26" height="26" />
          <h1>{document.title}</h1>
        </div>
        <ThemeButton />
      </header>
      <main id="main" tabIndex={-1}>
        <div class="inside">
          <TraceView />
        </div>
      </main>
    </>
  );
}

const trace = await heldTrace();
reveal(trace);
if (trace.attributions.length > 0) colouring.value = 'attribution';
render(<Page />, document.body);
