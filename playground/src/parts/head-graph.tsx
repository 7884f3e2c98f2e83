/** Which query head reads which key/value head, as lines. */

interface GroupedHead {
  readonly index: number;
  /** Its number in the original, from 0. */
  readonly name: number;
}

/** Of a query head, in the picture's units. */
const STEP = 72;
const HEIGHT = 104;

export function HeadGraph({
  groups,
  chosen,
}: {
  groups: readonly (readonly GroupedHead[])[];
  chosen: number;
}) {
  const N = groups.flat().length;
  if (N === 0) return <div class="graph" />;
  const radius = 13;
  const at = (index: number) => (index + 0.5) * STEP;
  const [top, bottom] = [20, HEIGHT - 20];
  const size = N / groups.length;
  return (
    <figure class="graph">
      <svg viewBox={`0 0 ${N * STEP} ${HEIGHT}`} role="img" aria-label={sentence(N, groups.length)}>
        {groups.map((group, k) => {
          const center = at(k * size + (size - 1) / 2);
          return (
            <g key={k} class={`hue-${k % 6}`}>
              {group.map(({ index, name }) => (
                <g key={name}>
                  <line x1={at(index)} y1={top} x2={center} y2={bottom} />
                  <circle cx={at(index)} cy={top} r={radius} class={name === chosen ? 'chosen' : ''} />
                  <text x={at(index)} y={top}>
                    {name + 1}
                  </text>
                </g>
              ))}
              <rect
                x={center - radius * 1.5}
                y={bottom - radius}
                width={radius * 3}
                height={2 * radius}
                rx={4}
              />
              <text x={center} y={bottom}>
                {k + 1}
              </text>
            </g>
          );
        })}
      </svg>
      <figcaption>{sentence(N, groups.length)}</figcaption>
    </figure>
  );
}

function sentence(N: number, K: number): string {
  const kind = K === N ? 'multi-head' : K === 1 ? 'multi-query' : 'grouped-query';
  return `${N} query heads (circles) read ${K} key/value ${K === 1 ? 'head' : 'heads'} (squares): ${kind} attention.`;
}
