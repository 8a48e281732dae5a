// The last ten minutes as small plots. One pointer goes over all of them: they show the same moment.

const WIDTH = 240;
const HEIGHT = 56;

const pointer = { place: null };

// `lines`: [{ kind, of, name }], from the bottom up if they are stacked. `of` takes a sample and may have nothing to say.
function plot({ lines, stacked, bars, unit, limit }) {
  const svg = makeSvg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  const bound = makeSvg("path", { class: "limit", d: "" });
  const cursor = makeSvg("path", { class: "cursor", d: "" });
  const paths = lines.map(({ kind }) => makeSvg("path", { class: `${stacked ? "area" : bars ? "bars" : "line"} ${kind}`, d: "" }));
  svg.append(...paths, bound, cursor);
  const top = make("span");
  const element = make("div", "plot", svg);
  element.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const place = Math.round(((event.clientX - box.left) / box.width) * (live.kept - 1));
    pointer.place = Math.max(0, Math.min(live.kept - 1, place));
    render();
  });
  element.addEventListener("pointerleave", () => {
    pointer.place = null;
    render();
  });
  return {
    element,
    top,
    update(samples) {
      const sums = samples.map(() => 0);
      const values = lines.map(({ of }) => samples.map((sample, at) => {
        const value = of(sample);
        return stacked ? (sums[at] += value ?? 0) : value;
      }));
      const most = Math.max(0, ...values.flat().filter((value) => value != null));
      const atMost = limit?.();
      // A limit that is far away would press everything else to the ground.
      const bounded = atMost > 0 && atMost <= 2.5 * most;
      const high = (bounded ? Math.max(atMost, most) : most) * 1.12 || 1;
      const x = (at) => ((live.kept - samples.length + at) / (live.kept - 1)) * WIDTH;
      const y = (value) => HEIGHT - (value / high) * HEIGHT;
      values.forEach((line, number) => {
        const below = stacked ? (number ? values[number - 1] : sums.map(() => 0)) : null;
        set(paths[number], "d", bars ? barsOf(line, x, y) : below ? areaOf(line, below, x, y) : lineOf(line, x, y));
      });
      set(bound, "d", bounded ? `M0 ${y(atMost)}H${WIDTH}` : "");
      const at = pointer.place;
      set(cursor, "d", at == null ? "" : `M${(at / (live.kept - 1)) * WIDTH} 0V${HEIGHT}`);
      say(top, bounded ? `limit ${unit(atMost)}` : most > 0 ? `max ${unit(most)}` : "");
    },
  };
}

const point = (x, y) => `${x.toFixed(1)} ${y.toFixed(1)}`;

function lineOf(values, x, y) {
  let path = "";
  let drawing = false;
  values.forEach((value, at) => {
    if (value == null) return void (drawing = false);
    // A lone point is a short stroke, or nobody would see it.
    const alone = !drawing && values[at + 1] == null;
    path += `${drawing ? "L" : "M"}${point(x(at) - (alone ? 1 : 0), y(value))}${alone ? "h2" : ""}`;
    drawing = true;
  });
  return path;
}

function areaOf(values, below, x, y) {
  if (values.length === 0) return "";
  const over = values.map((value, at) => point(x(at), y(value)));
  const under = below.map((value, at) => point(x(at), y(value))).reverse();
  return `M${[...over, ...under].join("L")}Z`;
}

function barsOf(values, x, y) {
  const width = Math.max(1.2, WIDTH / (live.kept - 1) - 0.6);
  return values.map((value, at) => (value > 0 ? `M${point(x(at) - width, y(value))}h${width}V${HEIGHT}h-${width}Z` : "")).join("");
}

// The sample under the pointer.
function pointed() {
  return pointer.place == null ? null : live.samples[pointer.place - (live.kept - live.samples.length)] ?? null;
}

// A number, what is to be said of it, and its plot. Under the pointer: what was then.
function tile(title, name, options) {
  const value = make("strong");
  const beside = make("span", "beside");
  const note = make("p", "note");
  const drawn = plot(options);
  const axis = make("p", "axis", make("span", "", "−10 min"), drawn.top, make("span", "", "now"));
  const element = make("article", "tile", make("h2", "", title), make("p", "big", value, " ", beside), note, drawn.element, axis);
  element.id = name;
  return {
    element,
    update(samples, now) {
      say(value, now.value);
      say(beside, now.beside);
      mark(element, "bad", now.level === "bad");
      mark(element, "warn", now.level === "warn");
      const then = pointed();
      const told = then && options.lines.map(({ name: line, of, kind }) => [`${line} ${options.unit(of(then))}`, kind]);
      sayParts(note, then ? [clock(then.at), ...told] : now.note);
      mark(note, "then", then);
      drawn.update(samples);
    },
  };
}
