/** The worker, and what the page does with its models. */
import { connect } from 'gqa/worker';
import {
  chosenHeads,
  chosenMethod,
  converted,
  facts,
  heads,
  losses,
  needsConversion,
  ownHeads,
  problem,
  revision,
  trainedSteps,
  work,
} from './state.ts';
import type { ConvertedFacts, Which } from './worker/models.ts';
import type { Functions } from './worker/worker.ts';

const worker = new Worker(new URL('./worker/worker.ts', import.meta.url), { type: 'module', name: 'models' });
export const engine = connect<Functions>(worker);
// For the console and the tests.
Object.assign(globalThis, { engine });

const BUNDLED = {
  name: 'moby-dick-gpt',
  files: ['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json', 'gqa-train.json'],
};
const TEXT = 'moby-dick.txt';

/** Opens what the address names: the bundled model, or the checkpoint that `gqa play` was given. */
export async function openFirst(): Promise<void> {
  await working('Loading the model', async () => {
    await engine.setText(await (await fetched(TEXT)).text());
    const isGiven = new URLSearchParams(location.search).has('checkpoint');
    const folder = isGiven ? 'checkpoint/' : 'model/';
    const list: { name: string; files: readonly string[] } = isGiven
      ? await (await fetched(`${folder}files.json`)).json()
      : BUNDLED;
    const files: File[] = [];
    for (const name of list.files) {
      files.push(new File([await (await fetched(folder + encodeURIComponent(name))).blob()], name));
    }
    await openModel(files, list.name);
  });
}

async function fetched(path: string): Promise<Response> {
  const response = await fetch(new URL(path, document.baseURI));
  if (!response.ok)
    throw new Error(`${path}: expected the file beside the page, got status ${response.status}`);
  return response;
}

/**
 * Opens files that were dropped or picked: a GGUF file, the files of a Hugging Face folder, or a text.
 * @param folder the name of the folder that they were dropped in
 */
export async function openFiles(files: readonly File[], folder?: string): Promise<void> {
  const [first] = files;
  if (first === undefined) {
    if (folder !== undefined)
      problem.value = `${folder}: expected a Hugging Face folder, got one without files`;
    return;
  }
  work.value?.stop?.(); // what it works on is replaced
  if (files.length === 1 && /\.txt$/i.test(first.name)) {
    await working(`Reading ${first.name}`, async () => {
      await engine.replaceText(await first.text()).catch((error: Error) => {
        throw new Error(`${first.name}: ${error.message}`);
      });
      losses.value = {};
      await measureLosses();
    });
    return;
  }
  const weights = files.find(({ name }) => /\.(gguf|safetensors)$/i.test(name));
  if (weights === undefined) {
    problem.value = `${folder ?? first.name}: expected a .gguf file, a Hugging Face folder (config.json, tokenizer.json, .safetensors), or a .txt file to train on`;
    return;
  }
  await working('Loading the model', () => openModel(files, folder));
}

async function openModel(files: readonly File[], name?: string): Promise<void> {
  const weights = files.find((file) => /\.(gguf|safetensors)$/i.test(file.name)) as File;
  const onProgress = (done: number, total: number) => {
    work.value = { what: 'Loading the model', share: done / total };
  };
  const opened = await engine.open([...files], name ?? weights.name, onProgress);
  [converted.value, trainedSteps.value, losses.value] = [undefined, 0, {}];
  facts.value = opened;
  revision.value++;
  if (needsConversion.value && opened.isSmall) await convertNow();
  else await measureLosses();
}

/** Converts to the chosen K by the chosen method. */
export async function convert(): Promise<void> {
  await working('Converting', convertNow);
}

async function convertNow(): Promise<void> {
  const [K, method] = [heads.value, chosenMethod.value];
  const controller = new AbortController();
  const stop = () => controller.abort();
  const onProgress = (done: number, total: number) => {
    work.value = { what: 'Converting', share: done / total, stop };
  };
  work.value = { what: 'Converting', stop };
  let made: ConvertedFacts | undefined;
  try {
    made = await engine.convert(K, method, controller.signal, onProgress);
  } finally {
    // The worker has none when this was stopped.
    converted.value = made;
    trainedSteps.value = 0;
    losses.value = { original: losses.value.original };
    revision.value++;
  }
  await measureLosses();
}

/** Measures the losses that are not known yet. */
async function measureLosses(): Promise<void> {
  const stop = new AbortController();
  work.value = { what: 'Measuring the loss', stop: () => stop.abort() };
  const measure = async (which: Which) => {
    losses.value = { ...losses.value, [which]: await engine.lossOf(which, stop.signal) };
  };
  if (losses.value.original === undefined) await measure('original');
  if (converted.value !== undefined) await measure('converted');
}

/** The slider has moved: a small model is converted at once, a large one when asked to. */
export function choose(K: number, method: (typeof chosenMethod)['value']): void {
  chosenHeads.value = K === ownHeads.value ? 0 : K;
  chosenMethod.value = method;
  if (facts.value?.isSmall && needsConversion.value) void convertWhenIdle();
}

let isWaiting = false;

/** Converts to what is chosen once the work in progress has ended; choices in between are skipped. */
async function convertWhenIdle(): Promise<void> {
  if (isWaiting) return;
  isWaiting = true;
  await current;
  isWaiting = false;
  if (needsConversion.value) await convert();
}

let current: Promise<void> = Promise.resolve();

/** Runs work that changes models, one at a time. An abort is no problem. */
export function working(what: string, run: () => Promise<void>): Promise<void> {
  current = current.then(async () => {
    problem.value = undefined;
    work.value = { what };
    try {
      await run();
    } catch (error) {
      if ((error as Error).name !== 'AbortError') problem.value = (error as Error).message;
    } finally {
      work.value = undefined;
    }
  });
  return current;
}
