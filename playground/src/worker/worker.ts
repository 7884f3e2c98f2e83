/** The worker: everything that the page computes. */
import type { ConvertMethod } from 'gqa/convert';
import { expose } from 'gqa/worker';
import { attention } from './look.ts';
import { convert, open, type Progress } from './models.ts';
import { lossOf, replaceText, resetRun, setText, theText, uptrain } from './recover.ts';
import { saveAsFile, saveInto } from './save.ts';
import { measureSpeeds } from './speed.ts';
import { ask, continueText, resetChats } from './text.ts';

const functions = {
  convert: (numKeyValueHeads: number, method: ConvertMethod, signal: AbortSignal, onProgress: Progress) =>
    convert(numKeyValueHeads, method, theText(), signal, onProgress),
  ...{ open, setText, replaceText, attention, lossOf, continueText, ask, resetChats },
  ...{ uptrain, resetRun, measureSpeeds, saveAsFile, saveInto },
};

export type Functions = typeof functions;
expose(functions);
