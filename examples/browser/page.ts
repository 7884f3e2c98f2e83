// The page: it has the buttons, and loads nothing of the engine.
import type { ModelSource } from 'gqa/checkpoint';
import { connect } from 'gqa/worker';
import type { Functions } from './worker.ts';

const engine = connect<Functions>(new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' }));
const element = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;
const say = (text: string) => element('status').replaceChildren(text);

async function load(source: ModelSource): Promise<void> {
  try {
    const onProgress = (done: number, total: number) => say(`${Math.floor((100 * done) / total)} %`);
    say(`Ready on ${await engine.load(source, onProgress)}.`);
  } catch (error) {
    say(String(error));
  }
}

element('load').onclick = () => load(element<HTMLInputElement>('address').value);
element('files').onchange = () => load([...element<HTMLInputElement>('files').files!]);
document.ondragover = (event) => event.preventDefault();
document.ondrop = (event) => {
  event.preventDefault();
  void load([...event.dataTransfer!.files]);
};

let running = new AbortController();
element('stop').onclick = () => running.abort();
element('form').onsubmit = async (event) => {
  event.preventDefault();
  running.abort();
  running = new AbortController();
  const answer = element('answer');
  answer.textContent = '';
  try {
    const { value } = element<HTMLInputElement>('question');
    for await (const piece of engine.ask(value, running.signal)) answer.append(piece);
  } catch (error) {
    if ((error as Error).name !== 'AbortError') say(String(error));
  }
};
