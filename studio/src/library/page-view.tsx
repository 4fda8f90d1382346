/** A page of a document as it looks, with the cited passage marked on it; its text where nothing is drawn. */
import { useEffect, useRef, useState } from 'preact/hooks';
import type { PageRecord } from '../../../src/archive/entries.js';
import { report } from '../parts/status.js';
import { isNarrow, known, look, looking, open, pagePicture, pageText } from './library.js';

export function PageView() {
  const at = looking.value;
  const found = known(at?.content);
  const wanted = found ? undefined : at?.content;
  useEffect(() => {
    if (wanted !== undefined) open(wanted).catch(report);
  }, [wanted]);
  const sheet = useRef<HTMLElement>(null);
  const isShown = at !== undefined && found !== undefined;
  useEffect(() => {
    if (at && isShown && isNarrow()) sheet.current?.scrollIntoView({ block: 'start' });
  }, [at, isShown]);
  if (!at || !found) return <section class="sheet faint" aria-label="Page" />;
  const { content, page, boxes, text } = at;
  const last = found.pages ?? 1;
  const turn = (to: number): void => look({ content, page: Math.min(last, Math.max(1, to)), boxes: [] });
  return (
    <section class="sheet" aria-label="Page" ref={sheet}>
      <header>
        <strong>{found.name}</strong>
        <span class="turning">
          <button type="button" disabled={page <= 1} onClick={() => turn(page - 1)} aria-label="Page before">
            ‹
          </button>
          <label>
            page{' '}
            <input
              type="number"
              min={1}
              max={last}
              value={page}
              onChange={({ currentTarget: { value } }) => turn(Math.round(Number(value)) || 1)}
            />{' '}
            of {last.toLocaleString('en')}
          </label>
          <button type="button" disabled={page >= last} onClick={() => turn(page + 1)} aria-label="Next page">
            ›
          </button>
        </span>
      </header>
      <Sheet
        key={`${content}-${page}`}
        content={content}
        page={page}
        boxes={boxes}
        passage={text}
        drawn={found.format === 'pdf'}
      />
    </section>
  );
}

function Sheet({
  content,
  page,
  boxes,
  passage,
  drawn,
}: {
  content: string;
  page: number;
  boxes: readonly (readonly [number, number, number, number])[];
  passage: string | undefined;
  drawn: boolean;
}) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const first = useRef<HTMLElement>(null);
  const [text, setText] = useState<PageRecord>();
  useEffect(() => {
    // Nobody wants to know what goes wrong with a page that has been left.
    const left = new AbortController();
    const { signal } = left;
    pageText(content, page, signal).then(setText, report);
    const show = async (): Promise<void> => {
      const picture = await pagePicture(content, page, 2, signal);
      const sheet = canvas.current;
      if (signal.aborted || !sheet) return;
      sheet.width = picture.width;
      sheet.height = picture.height;
      sheet.getContext('2d')?.drawImage(picture, 0, 0);
      picture.close();
    };
    if (drawn) show().catch(report);
    return () => left.abort();
  }, [content, page, drawn]);
  useEffect(() => first.current?.scrollIntoView({ block: 'nearest' }), [boxes, passage, text]);
  const { width, height } = text ?? {};
  return (
    <>
      {text && text.state !== 'read' && (
        <p class="sub bad">
          This page is {text.state}
          {text.why !== null && `: ${text.why}`}
        </p>
      )}
      {drawn ? (
        <div class="drawn">
          <canvas
            ref={canvas}
            width={width ?? 595}
            height={height ?? 842}
            role="img"
            aria-label={`Page ${page}: ${text?.text.slice(0, 300) ?? ''}`}
          />
          {width && height
            ? boxes.map(([left, top, right, bottom], i) => (
                <span
                  key={`${left}-${top}`}
                  class="found"
                  {...(i === 0 && { ref: first })}
                  style={{
                    left: `${(100 * left) / width}%`,
                    top: `${(100 * top) / height}%`,
                    width: `${(100 * (right - left)) / width}%`,
                    height: `${(100 * (bottom - top)) / height}%`,
                  }}
                />
              ))
            : null}
        </div>
      ) : (
        <pre class="plain">
          {partsAround(text?.text ?? '', passage).map((part, i) =>
            i === 1 ? (
              <mark key="passage" class="found" ref={first}>
                {part}
              </mark>
            ) : (
              part
            ),
          )}
        </pre>
      )}
    </>
  );
}

/** A page's text before, in and behind a passage; all of it where the passage does not stand in it as a whole. */
function partsAround(text: string, passage: string | undefined): string[] {
  const at = passage === undefined || passage === '' ? -1 : text.indexOf(passage);
  return at === -1 ? [text] : [text.slice(0, at), passage!, text.slice(at + passage!.length)];
}
