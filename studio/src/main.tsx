import '@fontsource-variable/inter/wght.css';
import '@fontsource-variable/newsreader/wght.css';
import './style/base.css';
import './style/shell.css';
import './style/chat.css';
import './style/library.css';
import './style/runs.css';
import './style/inside.css';
import { render } from 'preact';
import { Shell } from './shell.js';

render(<Shell />, document.body);
