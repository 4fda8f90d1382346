/** How a person calls Heddle from where they are, for hints that can be copied into their shell. */
export { heddleCall, heddleCommand, quoted } from './platform/node/command-line.js';
