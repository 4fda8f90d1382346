/** What is read of documents: their order, their pages, and what cannot be read. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PDFIUM, packageFolder } from '../packages.js';
import { PageTexts } from '../passages.js';
import { docx, type PdfPage, packedZeros, pdf, stream } from '../testing/documents.js';
import { kindOf } from './kind.js';
import { OPENERS } from './open.js';
import type { Page } from './page.js';
import { Pdfium } from './pdf.js';

const folder = mkdtempSync(join(tmpdir(), 'heddle-formats-'));
let pdfium: Pdfium;
beforeAll(async () => {
  pdfium = await Pdfium.load(await packageFolder(PDFIUM));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let count = 0;
function file(content: Buffer | string, ending: string): string {
  const path = join(folder, `${count++}${ending}`);
  writeFileSync(path, content);
  return path;
}

async function pagesOf(path: string): Promise<Page[]> {
  const document = await OPENERS[await kindOf(path)](path, async () => pdfium);
  try {
    const pages: Page[] = [];
    for (let i = 1; i <= document.pages; i++) pages.push(await document.page(i));
    return pages;
  } finally {
    document.close();
  }
}

function read(pages: readonly PdfPage[]): Promise<Page[]> {
  return pagesOf(file(pdf(pages), '.pdf'));
}

/** The text of each page. */
function textsOf(pages: readonly Page[]): string[] {
  return new PageTexts().of(pages).map(({ passages }) => passages.map(({ text }) => text).join('\n'));
}

const LEFT = [
  'The first column begins here and',
  'goes on with several lines of',
  'prose that fill it from edge to',
  'edge, so that it is one, and it',
  'ends with this line of its text.',
];
const RIGHT = [
  'The second column is read after',
  'the first one, though it may be',
  'drawn line by line beside it by',
  'whatever program made the file,',
  'and this is the end of all of it.',
];
const at = (text: string, x: number, y: number, size?: number) => ({ text, x, y, ...(size && { size }) });

const lines = (count: number) =>
  Array.from({ length: count }, (_, i) => at(`Line ${i} of a text over a picture.`, 50, 700 - 14 * i));

describe('the order of a page', () => {
  test('columns are read one after the other, in whatever order they were drawn', async () => {
    const across = LEFT.flatMap((text, i) => [at(text, 50, 700 - 14 * i), at(RIGHT[i]!, 320, 700 - 14 * i)]);
    const title = at('A title over both of the columns', 150, 760, 18);
    for (const texts of [[title, ...across], [...across].reverse().concat(title)]) {
      const [text] = textsOf(await read([{ texts }]));
      expect(text).toBe(`${title.text}\n${LEFT.join(' ')}\n${RIGHT.join(' ')}`);
    }
  });

  test('a table keeps its rows, with tabs between the cells', async () => {
    const rows = [
      ['Name', 'Born', 'Place'],
      ['Ada', '1815', 'London'],
      ['Grace', '1906', 'New York'],
      ['Mary', '1911', 'Boston'],
      ['Jean', '1922', 'Oxford'],
    ];
    const texts = rows.flatMap((row, i) => row.map((cell, j) => at(cell, 60 + 150 * j, 700 - 16 * i)));
    expect(textsOf(await read([{ texts }]))).toEqual([rows.map((row) => row.join('\t')).join('\n')]);
  });

  test('a word that a line ends within is whole again, and one with a hyphen of its own keeps it', async () => {
    const lines = [
      'This sentence has a bro-',
      'ken word, and a well-known one; the second is well-',
      'known too, and so is a state-of-the-',
      'art one.',
    ];
    const [text] = textsOf(await read([{ texts: lines.map((line, i) => at(line, 60, 700 - 12 * i)) }]));
    expect(text).toContain(
      'a broken word, and a well-known one; the second is well-known too, and so is a state-of-the-art one.',
    );
  });

  test('headers, footers and numbers of pages are left out', async () => {
    const pages = [
      'Alpha is the first of them.',
      'Beta is the second of them.',
      'Gamma is the third of them.',
      'Delta is the last one.',
    ].map((body, i) => ({
      texts: [
        at(i % 2 === 0 ? `${i + 11} The Manual of Letters` : `Chapter ${i} of it ${i + 11}`, 60, 760, 8),
        at(body, 60, 600),
        at('Printed in 1999', 60, 40, 8),
      ],
    }));
    expect(textsOf(await read(pages))).toEqual(pages.map(({ texts }) => texts[1]!.text));
  });

  test('a turned and a cut page are read as they are shown, with places on what is shown', async () => {
    const texts = [at('Turned by a quarter', 100, 700)];
    const [turned] = await read([{ texts, rotate: 90 }]);
    expect([turned!.width, turned!.height]).toEqual([800, 600]);
    const [left, top, right, bottom] = turned!.rows[0]!.box!;
    // What was 700 from the bottom is 700 from the left now, and what was 100 from the left 100 from the top.
    expect(left).toBeGreaterThan(690);
    expect(right).toBeLessThan(720);
    expect(top).toBeCloseTo(100, -1);
    expect(bottom - top).toBeGreaterThan(60);
    const [cut] = await read([{ texts, crop: [50, 100, 550, 750] }]);
    expect([cut!.width, cut!.height]).toEqual([500, 650]);
    expect(cut!.rows[0]!.box![0]).toBeCloseTo(50, -1);
    expect(cut!.rows[0]!.box![3]).toBeGreaterThan(48);
    expect(cut!.rows[0]!.box![3]).toBeLessThan(56);
  });
});

describe('states of pages', () => {
  test('nothing, a picture, and a text', async () => {
    const image = stream(
      Buffer.alloc(4),
      '/Type /XObject /Subtype /Image /Width 2 /Height 2 /BitsPerComponent 8 /ColorSpace /DeviceGray',
    );
    const bytes = pdf(
      [
        {},
        { operators: 'q 600 0 0 800 0 0 cm /I1 Do Q', resources: '/XObject << /I1 10 0 R >>' },
        { texts: [at('Words', 50, 50)] },
      ],
      { extra: [image] },
    );
    const pages = await pagesOf(file(bytes, '.pdf'));
    expect(pages.map(({ state }) => state)).toEqual(['empty', 'scanned', 'read']);
  });

  test('what fields of forms and notes on a page show is read, and drawn, and what they hide is not', async () => {
    const field = (rect: string, more: string): string =>
      `<< /Type /Annot /Rect [${rect}] /DA (/F1 10 Tf 0 g) ${more} >>`;
    const looks = stream(
      'BT /F1 10 Tf 2 5 Td (Ada Lovelace) Tj ET',
      '/Type /XObject /Subtype /Form /BBox [0 0 240 20] /Resources << /Font << /F1 3 0 R >> >>',
    );
    const bytes = pdf([{ texts: [at('Name', 60, 700)], annotations: [10, 12, 13, 15, 16, 17, 18] }, {}], {
      catalog:
        '/AcroForm << /Fields [10 0 R 12 0 R 14 0 R 16 0 R] /DA (/F1 10 Tf 0 g) /DR << /Font << /F1 3 0 R >> >> >>',
      extra: [
        field('160 695 400 715', '/Subtype /Widget /FT /Tx /T (name) /V (Ada Lovelace) /AP << /N 11 0 R >>'),
        looks,
        // Without a look of its own; one whose value is its parent's; a text that somebody has set on the page.
        field('160 645 400 665', '/Subtype /Widget /FT /Tx /T (place) /V (London)'),
        field('160 595 400 615', '/Subtype /Widget /Parent 14 0 R'),
        '<< /FT /Tx /T (born) /V (1815) /DA (/F1 10 Tf 0 g) /Kids [13 0 R] >>',
        field('160 545 400 565', '/Subtype /FreeText /Contents (Seen by the registry)'),
        // Hidden; a note that opens; a link.
        field('160 495 400 515', '/Subtype /Widget /F 2 /FT /Tx /T (secret) /V (Hidden)'),
        field('160 445 180 465', '/Subtype /Text /Contents (A remark)'),
        field('160 395 180 415', '/Subtype /Link /Contents (A link)'),
      ],
    });
    const path = file(bytes, '.pdf');
    const pages = await pagesOf(path);
    expect(textsOf(pages).map((text) => text.split(/\s*\n\s*/))).toEqual([
      ['Name\tAda Lovelace', 'London', '1815', 'Seen by the registry'],
      [''],
    ]);
    const [left, top, right, bottom] = pages[0]!.rows[1]!.box!;
    expect(left >= 160 && top >= 135 && right <= 400 && bottom <= 155).toBe(true);
    const document = pdfium.open(path);
    const { width, data } = document.render(1, 1);
    document.close();
    const isDark = (y: number): boolean =>
      data.subarray(4 * width * (y - 10), 4 * width * y).some((each) => each < 100);
    expect([85, 105, 155, 205, 255, 305].map(isDark)).toEqual([false, true, true, true, true, false]);
  });

  test('a stamp on a picture is no text of it; what was recognised on one is', async () => {
    const image = stream(
      Buffer.alloc(4),
      '/Type /XObject /Subtype /Image /Width 2 /Height 2 /BitsPerComponent 8 /ColorSpace /DeviceGray',
    );
    const form = stream(
      'BT /F1 10 Tf 50 700 Td (A chapter ends on this page with a line.) Tj ET',
      '/Type /XObject /Subtype /Form /BBox [0 0 600 800] /Resources << /Font << /F1 3 0 R >> >>',
    );
    const stamp = [at('Downloaded from the archive of birds on 3 May 2020, number 000123', 50, 20)];
    const whole = 'q 600 0 0 800 0 0 cm /I1 Do Q';
    const resources = '/XObject << /I1 10 0 R /F1 11 0 R >>';
    const bytes = pdf(
      [
        { operators: whole, resources, texts: stamp },
        // In strips.
        {
          operators: [0, 1, 2, 3].map((i) => `q 600 0 0 200 0 ${200 * i} cm /I1 Do Q`).join('\n'),
          resources,
          texts: stamp,
        },
        { operators: `${whole} BT 3 Tr /F1 10 Tf 50 700 Td (The last words of a chapter) Tj ET`, resources },
        { operators: 'q 600 0 0 300 0 0 cm /I1 Do Q', resources, texts: stamp },
        { operators: whole, resources, texts: lines(20) },
        { operators: '/F1 Do', resources },
      ],
      { extra: [image, form] },
    );
    const pages = await pagesOf(file(bytes, '.pdf'));
    expect(pages.map(({ state }) => state)).toEqual(['scanned', 'scanned', 'read', 'read', 'read', 'read']);
    // What the stamp says is found all the same.
    expect(pages[0]!.rows[0]!.text).toBe(stamp[0]!.text);
  });

  test('a font that does not say which characters it draws', async () => {
    const font =
      '<< /Type /Font /Subtype /Type0 /BaseFont /ABCDEF+None /Encoding /Identity-H /DescendantFonts [11 0 R] >>';
    const descendant =
      '<< /Type /Font /Subtype /CIDFontType2 /BaseFont /ABCDEF+None /CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> /FontDescriptor 12 0 R >>';
    const descriptor =
      '<< /Type /FontDescriptor /FontName /ABCDEF+None /Flags 4 /FontBBox [0 0 1000 1000] /ItalicAngle 0 /Ascent 800 /Descent -200 /CapHeight 700 /StemV 80 >>';
    const glyphs = Array.from({ length: 60 }, (_, i) => (i + 3).toString(16).padStart(4, '0')).join('');
    const bytes = pdf(
      [{ operators: `BT /F2 12 Tf 50 700 Td <${glyphs}> Tj ET`, resources: '/Font << /F2 10 0 R >>' }],
      { extra: [font, descendant, descriptor] },
    );
    const [page] = await pagesOf(
      file(bytes.toString('latin1').replace('/Font << /F1 3 0 R >> /Font', '/Font'), '.pdf'),
    );
    expect(page).toMatchObject({
      state: 'failed',
      why: expect.stringContaining('do not say which characters'),
    });
  });
});

describe('what cannot be read says why', () => {
  const good = pdf([{ texts: [at('Some words', 50, 700)] }]);
  const encrypted = pdf([{ texts: [at('Some words', 50, 700)] }], {
    extra: [`<< /Filter /Standard /V 1 /R 2 /O <${'ab'.repeat(32)}> /U <${'cd'.repeat(32)}> /P -44 >>`],
    trailer: '/Encrypt 10 0 R /ID [<00> <00>]',
  });
  test.each([
    ['encrypted', encrypted, '.pdf', /password/],
    ['no bytes', Buffer.alloc(0), '.pdf', /empty/],
    ['another format under the name', Buffer.from('hello'), '.pdf', /no PDF/],
    ['only the first line', good.subarray(0, 9), '.pdf', /truncated|damaged|no PDF|no pages/],
    [
      'nothing but noise behind the first line',
      Buffer.from(`%PDF-1.7\n${'x'.repeat(5000)}`),
      '.pdf',
      /damaged/,
    ],
    ['a zip file of something else', Buffer.from('PK\x03\x04 and so on'), '.docx', /docx/],
    ['an old Word document', Buffer.from([0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1]), '.docx', /old form/],
    ['text in UTF-32', Buffer.from([0xff, 0xfe, 0, 0, 0x61, 0, 0, 0]), '.txt', /UTF-32: save it as UTF-8/],
    ['bytes of a program', Buffer.from([0x7f, 0x45, 0x4c, 0x46, 0, 0, 1]), '.txt', /nor text/],
  ])('%s', async (_, bytes, ending, why) => {
    await expect(pagesOf(file(bytes, ending))).rejects.toThrow(why);
  });

  test('a truncated file gives the pages that it has', async () => {
    const long = pdf(
      Array.from({ length: 9 }, (_, i) => ({ texts: [at(`Page number ${i} of it`, 50, 700)] })),
    );
    const outcome = await pagesOf(file(long.subarray(0, Math.floor(long.length * 0.7)), '.pdf')).then(
      (pages) => pages.map(({ state }) => state),
      (error: Error) => error.message,
    );
    // PDFium rebuilds what it finds; whatever it makes of it, nothing is skipped without a word.
    expect(outcome.length).toBeGreaterThan(0);
  });

  test('a file that claims more pages than it has bytes', () => {
    const claims = good.toString('latin1').replace(/\/Count 1\b/, '/Count 1000000');
    const document = pdfium.open(file(Buffer.from(claims, 'latin1'), '.pdf'));
    expect(document.pages).toBe(claims.length);
    expect(document.page(1).rows[0]!.text).toBe('Some words');
    expect(() => document.page(2)).toThrow(/./);
    document.close();
  });

  test('more characters than a page has', async () => {
    const line = Array.from(
      { length: 700 },
      (_, i) => `BT /F1 0.5 Tf 50 ${i + 20} Td (${'xy'.repeat(400)}) Tj ET`,
    ).join('\n');
    const document = pdfium.open(
      file(pdf([{ operators: line }, { texts: [at('The next page', 50, 700)] }]), '.pdf'),
    );
    expect(() => document.page(1)).toThrow(/no page has as many/);
    expect(document.page(2).rows[0]!.text).toBe('The next page');
    document.close();
  });

  test('a stream that unpacks to far more than it is', async () => {
    const bytes = pdf(
      [
        { operators: '/I1 Do', resources: '/XObject << /I1 10 0 R >>' },
        { texts: [at('The next page', 50, 700)] },
      ],
      {
        extra: [
          stream(
            packedZeros(5_000_000),
            '/Type /XObject /Subtype /Form /BBox [0 0 1 1] /Filter /FlateDecode',
          ),
        ],
      },
    );
    const pages = await pagesOf(file(bytes, '.pdf'));
    expect(pages[1]!.rows[0]!.text).toBe('The next page');
  });
});

describe('documents that flow', () => {
  test('HTML: blocks, tables and what nobody reads', async () => {
    const html = `<!doctype html><html><head><title>The title</title><style>p{}</style><script>let x = "<p>no</p>";</script></head>
      <body><nav>Menu</nav><h1>Fruit</h1><p>An <b>apple</b> a&nbsp;day &amp; a pear<br>on a new line</p>
      <table><tr><th>Name</th><th>Colour</th></tr><tr><td><p>Plum</p></td><td>blue</td></tr></table><pre>a  b
  c</pre></body></html>`;
    const [page] = await pagesOf(file(html, '.html'));
    expect(page!.rows.map(({ text }) => text)).toEqual([
      'The title',
      'Fruit',
      'An apple a day & a pear',
      'on a new line',
      'Name\tColour',
      'Plum\tblue',
      'a  b',
      '  c',
    ]);
    expect(page!.rows.filter(({ heading }) => heading).map(({ text }) => text)).toEqual([
      'The title',
      'Fruit',
    ]);
  });

  // biome-ignore format: a line for each
  test.each<[string, string, string[]]>([
    ['no head', '<!doctype html><title>Hi</title><p>Hello', ['Hi', 'Hello']],
    ['a head and no body', '<html><head><title>T</title><p>Hello', ['T', 'Hello']],
    ['a head that nobody closes', '<html><head><meta charset="utf-8"><title>T</title><style>p{}</style><body><p>Hello</body>', ['T', 'Hello']],
    ['a text before all', 'Hello<title>T</title>', ['Hello', 'T']],
    ['two titles', '<title>A</title><title>B</title><p>Hello', ['A', 'B', 'Hello']],
    ['a title in a drawing', '<svg><title>Icon</title></svg><p>Hello', ['Hello']],
    ['cells and rows that nobody closes', '<table><tr><th>a<th>b<tr><td><p>c<td>d</table>After', ['a\tb', 'c\td', 'After']],
    ['items that nobody closes', '<ul><li>one<li><p>two<li>three</ul><dl><dt>A<dd>B</dl>', ['one', 'two', 'three', 'A', 'B']],
    ['a script of XHTML', '<html><head><script src="x.js"/><title/></head><body><nav/><p>Hello</p></body></html>', ['Hello']],
    ['spaces between inline elements', '<p>a <b> b</b> <i>c</i>d &amp;&nbsp; e</p>', ['a b cd & e']],
    ['empty cells and blocks in cells', '<table><tr><td>a<td><td> <td>b <div>c</div> d</table>', ['a\tb c d']],
    ['nothing but links', '<nav><a href="a">One</a><p>Two</nav>', ['One', 'Two']],
  ])('HTML with %s', async (_, html, rows) => {
    const [page] = await pagesOf(file(html, '.html'));
    expect(page!.rows.map(({ text }) => text)).toEqual(rows);
  });

  test('a paragraph of many entities and a text without a space are read in a time that grows with their length', async () => {
    const [page, ...more] = await pagesOf(file(`<p>${'&auml;&amp;'.repeat(150_000)}</p>`, '.html'));
    expect(page!.rows.map(({ text }) => text).join('') === '\u00e4&'.repeat(150_000)).toBe(true);
    expect(more).toEqual([]);
    const lines = (await pagesOf(file('x'.repeat(3_000_000), '.txt'))).flatMap(({ rows }) => rows);
    expect(lines.map(({ text }) => text.length)).toEqual(Array(1500).fill(2000));
  });

  test('lines of megabytes are cut between words and characters, and HTML in one line is not cut', async () => {
    const items = Array.from(
      { length: 11_000 },
      (_, i) => `<li class="${'x'.repeat(400)}">n${i}&nbsp;m</li>`,
    );
    const rows = (await pagesOf(file(`<ul>${items.join('')}</ul>`, '.html'))).flatMap((page) => page.rows);
    expect(rows.length).toBe(items.length);
    expect(rows.findIndex(({ text }, i) => text !== `n${i} m`)).toBe(-1);
    const words = Array.from({ length: 11_000 }, (_, i) => `w${i}${'w'.repeat(400)}`).join(' ');
    const lines = (await pagesOf(file(words, '.txt'))).flatMap((page) => page.rows.map(({ text }) => text));
    expect(lines.join(' ') === words).toBe(true);
    const birds = '\u{1f426}'.repeat(3001);
    const cut = (await pagesOf(file(`a${birds}`, '.txt'))).flatMap((page) =>
      page.rows.map(({ text }) => text),
    );
    expect(cut.join('') === `a${birds}` && cut.every((text) => !/\p{Surrogate}/u.test(text))).toBe(true);
  });

  test('HTML in the encoding that it names', async () => {
    const html = (name: string): Buffer => Buffer.from(`<meta charset="${name}"><p>`, 'latin1');
    const cyrillic = Buffer.concat([html('windows-1251'), Buffer.from([0xd6, 0xe0, 0xef, 0xeb, 0xff])]);
    expect(textsOf(await pagesOf(file(cyrillic, '.html')))).toEqual(['Цапля']);
    const wrong = Buffer.concat([html('windows-1251'), Buffer.from('Grüße')]);
    expect(textsOf(await pagesOf(file(wrong, '.html')))).toEqual(['Grüße']);
  });

  test('Word: headings, tables, breaks of pages', async () => {
    const p = (text: string, style = '') =>
      `<w:p>${style && `<w:pPr><w:pStyle w:val="${style}"/></w:pPr>`}<w:r><w:t xml:space="preserve">${text}</w:t></w:r></w:p>`;
    const bytes = await docx(
      `${p('Report', 'Heading1')}${p('One &amp; two.')}<w:tbl><w:tr><w:tc>${p('a')}</w:tc><w:tc>${p('b')}${p('c')}</w:tc></w:tr></w:tbl><w:p><w:r><w:br w:type="page"/><w:t>Next page</w:t></w:r></w:p>`,
    );
    const pages = await pagesOf(file(bytes, '.docx'));
    expect(pages.map(({ rows }) => rows.map(({ text }) => text))).toEqual([
      ['Report', 'One & two.', 'a\tb c'],
      ['Next page'],
    ]);
    expect(pages[0]!.rows[0]!.heading).toBe(true);
  });

  test('Word: notes stand behind the paragraph or in the cell that refers to them', async () => {
    const run = (text: string) => `<w:r><w:t>${text}</w:t></w:r>`;
    const note = (kind: string, id: number, text: string) =>
      `<w:${kind} w:id="${id}"><w:p>${run(text)}</w:p><w:p>${run('More.')}</w:p></w:${kind}>`;
    const refer = (kind: string, id: number) => `<w:r><w:${kind}Reference w:id="${id}"/></w:r>`;
    const bytes = await docx(
      `<w:p>${run('Thirty days')}${refer('footnote', 2)}${run(' of notice')}${refer('endnote', 2)}</w:p><w:p>${run('Next')}${refer('footnote', 7)}</w:p>
       <w:tbl><w:tr><w:tc><w:p>${run('cell')}${refer('footnote', 3)}</w:p></w:tc></w:tr></w:tbl>`,
      {
        footnotes: `<w:footnote w:type="separator" w:id="-1"><w:p><w:r><w:separator/></w:r></w:p></w:footnote>${note('footnote', 2, 'Not in May.')}${note('footnote', 3, 'Of a table.')}`,
        endnotes: note('endnote', 2, 'By letter.'),
      },
    );
    const [page] = await pagesOf(file(bytes, '.docx'));
    expect(page!.rows.map(({ text }) => text)).toEqual([
      'Thirty days of notice',
      'Not in May. More.',
      'By letter. More.',
      'Next',
      'cell Of a table. More.',
    ]);
  });

  test('text in several encodings, Markdown, and pages of a long one', async () => {
    const utf16 = Buffer.concat([Buffer.from([0xff, 0xfe]), Buffer.from('Grüße\r\naus Köln', 'utf16le')]);
    for (const bytes of [Buffer.from('Grüße\naus Köln'), utf16, Buffer.from('Grüße\r\naus Köln', 'latin1')]) {
      expect(textsOf(await pagesOf(file(bytes, '.txt')))).toEqual(['Grüße aus Köln']);
    }
    // The first accent may stand far behind, and a byte of a long text may be damaged.
    const late = Buffer.concat([Buffer.alloc(70_000, 'words \n'), Buffer.from('Grüße', 'latin1')]);
    expect(textsOf(await pagesOf(file(late, '.txt'))).join('')).toMatch(/Grüße$/);
    const damaged = Buffer.concat([Buffer.from('Grüße, Köln, Zürich, '), Buffer.from([0xff])]);
    expect(textsOf(await pagesOf(file(damaged, '.txt')))).toEqual(['Grüße, Köln, Zürich, \ufffd']);
    const [page] = await pagesOf(file('# Title\nText below\n\n```\n# no heading\n```\n', '.md'));
    expect(page!.rows.map(({ text, heading }) => [text, heading === true])).toEqual([
      ['# Title', true],
      ['Text below', false],
      ['```', false],
      ['# no heading', false],
      ['```', false],
    ]);
    const long = await pagesOf(file(`${'Words and words. '.repeat(30)}\n\n`.repeat(40), '.txt'));
    expect(long.length).toBeGreaterThan(4);
    expect(await pagesOf(file(' \n', '.txt'))).toEqual([{ state: 'empty', rows: [] }]);
  });
});

test('long texts are cut into passages at ends of sentences, and nothing of them is lost', async () => {
  const sentences = Array.from(
    { length: 120 },
    (_, i) => `Sentence ${i} of a very long paragraph ends here.`,
  );
  const pages = await pagesOf(file(sentences.join(' '), '.txt'));
  const passages = new PageTexts().of(pages).flatMap((page) => page.passages);
  expect(passages.length).toBeGreaterThan(3);
  expect(passages.map(({ text }) => text).join(' ')).toBe(sentences.join(' '));
  for (const { text } of passages) expect(text.endsWith('.')).toBe(true);
  // Where no sentence ends, a passage ends between two words, or else between two characters.
  const rowsOf = (text: string) => [{ state: 'read' as const, rows: [{ text, begins: true }] }];
  const passagesOf = (text: string) =>
    new PageTexts().of(rowsOf(text)).flatMap((page) => page.passages.map((each) => each.text));
  const words = Array.from({ length: 900 }, (_, i) => `word${i}`).join(' ');
  expect(passagesOf(words).join(' ')).toBe(words);
  const birds = `a${'\u{1f426}'.repeat(4000)}`;
  expect(passagesOf(birds).join('')).toBe(birds);
  expect(passagesOf(birds).some((text) => /\p{Surrogate}/u.test(text))).toBe(false);
});
