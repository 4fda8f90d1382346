/** Markdown as elements. Nothing in the text becomes HTML. */
import { useMemo } from 'preact/hooks';
import { Copy } from '../parts/copy.js';
import { type Block, type Inline, parseMarkdown } from './markdown.js';

/** An answer in Markdown. The same text is drawn once: other turns change while an answer streams. */
export function MarkdownView({ text }: { text: string }) {
  return useMemo(() => <div class="answer markdown">{parseMarkdown(text).map(block)}</div>, [text]);
}

function block(found: Block, key: number) {
  switch (found.kind) {
    case 'paragraph':
      return <p key={key}>{found.parts.map(inline)}</p>;
    case 'heading': {
      // The page has its own of the first level.
      const Heading = `h${Math.min(6, found.level + 1)}` as 'h2';
      return <Heading key={key}>{found.parts.map(inline)}</Heading>;
    }
    case 'code':
      return (
        <div key={key} class="listing">
          {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard. */}
          <pre tabIndex={0}>
            <code>{found.text}</code>
          </pre>
          <Copy text={found.text} what="the code" />
        </div>
      );
    case 'math':
      return (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: as above.
        <pre key={key} tabIndex={0}>
          <code>{found.text}</code>
        </pre>
      );
    case 'quote':
      return <blockquote key={key}>{found.blocks.map(block)}</blockquote>;
    case 'list': {
      const items = found.items.map((blocks, i) => <li key={i}>{blocks.map(block)}</li>);
      return found.start === undefined ? (
        <ul key={key} dir="auto">
          {items}
        </ul>
      ) : (
        <ol key={key} dir="auto" start={found.start}>
          {items}
        </ol>
      );
    }
    case 'table':
      return (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: as above.
        <section key={key} class="scroll" tabIndex={0} aria-label="Table">
          <table>
            <thead>
              <tr>
                {found.head.map((cell, i) => (
                  <th key={i} scope="col">
                    {cell.map(inline)}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {found.rows.map((row, i) => (
                <tr key={i}>
                  {row.map((cell, j) => (
                    <td key={j}>{cell.map(inline)}</td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </section>
      );
    case 'rule':
      return <hr key={key} />;
  }
}

function inline(found: Inline, key: number) {
  if (typeof found === 'string') return found;
  switch (found.kind) {
    case 'code':
    case 'math':
      return <code key={key}>{found.text}</code>;
    case 'link':
      return (
        <a key={key} href={found.to} title={found.to} target="_blank" rel="noopener noreferrer">
          {found.parts.map(inline)}
        </a>
      );
    default: {
      const Element = found.kind;
      return <Element key={key}>{found.parts.map(inline)}</Element>;
    }
  }
}
