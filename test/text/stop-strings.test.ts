import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { StopStrings } from '../../src/text/stop-strings.ts';

function run(stops: readonly string[], pieces: readonly string[]): { text: string; stopped: boolean } {
  const strings = new StopStrings(stops);
  let text = pieces.map((piece) => strings.push(piece)).join('');
  text += strings.flush();
  return { text, stopped: strings.stopped };
}

describe('StopStrings', () => {
  test.each([
    [['END'], ['one EN', 'D two'], 'one ', true],
    [['END'], ['one EN', 'E two'], 'one ENE two', false],
    [['END'], ['one EN'], 'one EN', false],
    [['aab'], ['a', 'a', 'a', 'b'], 'a', true],
    [['abc', 'b'], ['abc'], 'a', true],
    [['bc', 'abc'], ['xabc'], 'x', true],
    [['\n\n', 'User:'], ['hello\n', 'User: x'], 'hello\n', true],
    [[], ['anything'], 'anything', false],
  ])('%j in %j', (stops, pieces, text, stopped) => {
    expect(run(stops, pieces)).toEqual({ text, stopped });
  });

  test('holds back no more than may begin a stop string', () => {
    const strings = new StopStrings(['<end>']);
    expect(strings.push('a<')).toBe('a');
    expect(strings.push('e')).toBe('');
    expect(strings.push('x<en')).toBe('<ex');
    expect(strings.push('d>rest')).toBe('');
    expect(strings.stopped).toBe(true);
    expect(strings.push('more')).toBe('');
    expect(strings.flush()).toBe('');
  });

  test('how the text is cut into pieces changes nothing', () => {
    const letters = (maxLength: number) => fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength });
    const stops = fc.array(
      letters(4).filter((stop) => stop !== ''),
      { maxLength: 3 },
    );
    fc.assert(
      fc.property(stops, fc.array(letters(5), { maxLength: 8 }), (list, pieces) => {
        const whole = run(list, [pieces.join('')]);
        expect(run(list, pieces)).toEqual(whole);
        expect(whole.stopped).toBe(list.some((stop) => pieces.join('').includes(stop)));
      }),
      { numRuns: 2000 },
    );
  });

  test('an empty stop string is refused', () => {
    expect(() => new StopStrings(['a', ''])).toThrow(RangeError);
  });
});
