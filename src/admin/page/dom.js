// Making and changing elements. What comes from outside becomes text, never markup.

const byId = (id) => document.getElementById(id);

// An element with a class or none, and what is in it: texts and elements.
function make(name, className, ...inside) {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.append(...inside);
  return element;
}

function makeSvg(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function button(text, className, act) {
  const element = make("button", className, text);
  element.type = "button";
  element.addEventListener("click", act);
  return element;
}

// Changes only what is another: a selection or a click that has begun in it survives.
function say(element, text) {
  const wanted = String(text);
  if (element.textContent !== wanted) element.textContent = wanted;
}

function mark(element, className, holds) {
  if (element.classList.contains(className) !== Boolean(holds)) element.classList.toggle(className, Boolean(holds));
}

function show(element, visible) {
  if (element.hidden === Boolean(visible)) element.hidden = !visible;
}

function set(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

// A line of parts: texts, or [text, kind] for what is drawn in the colour of that kind.
function sayParts(element, parts) {
  const wanted = parts.map((part) => (Array.isArray(part) ? part : [part, ""]));
  while (element.childElementCount > wanted.length) element.lastElementChild.remove();
  wanted.forEach(([text, kind], place) => {
    const part = element.children[place] ?? element.appendChild(make("span"));
    say(part, text);
    set(part, "class", kind && `dot ${kind}`);
  });
}

const kept = new WeakMap();

// Brings the children of `parent` in line with `items`: one element for each key, made once and then updated.
function sync(parent, items, keyOf, making, updating) {
  const before = kept.get(parent) ?? new Map();
  const after = new Map();
  for (const item of items) {
    const key = keyOf(item);
    const child = before.get(key) ?? making(item);
    after.set(key, child);
    updating(child, item);
  }
  kept.set(parent, after);
  for (const [key, child] of before) if (!after.has(key)) child.element.remove();
  const wanted = [...after.values()].map((child) => child.element);
  const ours = new Set(wanted);
  let place = [...parent.children].find((element) => ours.has(element)) ?? null;
  for (const element of wanted) {
    if (element === place) place = place.nextElementSibling;
    else parent.insertBefore(element, place);
  }
}

// A row of a table: cells by name. On a narrow screen each says what it is, by its label.
function row(columns) {
  const cells = {};
  const element = make("tr");
  for (const [name, [label, className]] of Object.entries(columns)) {
    cells[name] = make("td", className);
    if (label) cells[name].dataset.label = label;
    element.append(cells[name]);
  }
  return { element, cells };
}

// How much of a limit is used: a number, and a bar behind it.
function gauge() {
  const text = make("span");
  const fill = make("i");
  const element = make("span", "gauge", text, make("span", "bar", fill));
  return {
    element,
    update(used, limit) {
      say(text, limit == null ? count(used) : `${count(used)} of ${count(limit)}`);
      mark(element, "unlimited", limit == null);
      mark(element, "full", limit != null && used >= limit);
      fill.style.width = `${limit ? Math.min(100, (100 * used) / limit) : 0}%`;
    },
  };
}
