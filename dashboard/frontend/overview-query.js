// What can be asked of a run in the list: its fields, the filter people type, sorting and grouping. Pure functions of rows.
// row: as dashboard/overview/rows.py makes it; facts: { defaults, options: every dotted option that some run has }.

const lower = (value) => String(value).toLowerCase();
const STATES = ["running", "created", "stale", "dead", "failed", "broken", "interrupted", "finished"];
const SEVERITIES = ["alarm", "warning", "info", "ok"];
const place = (list, value) => { const at = list.indexOf(value); return at < 0 ? undefined : at; };

// of: the value (undefined: not known); texts: what words are looked for in; order: what to sort by, if not the value
const FIELDS = {
  name: { of: (row) => row.name },
  state: { of: (row) => row.state, exact: true, among: STATES, order: (row) => place(STATES, row.state) },
  verdict: {
    of: (row) => row.verdict?.title, texts: (row) => (row.verdict ? [row.verdict.title, row.verdict.kind, row.verdict.severity] : []),
    order: (row) => row.verdict && place(SEVERITIES, row.verdict.severity),
  },
  tag: { of: (row) => (row.tags.length ? row.tags.join(", ") : undefined), texts: (row) => row.tags, exact: true, many: (row) => row.tags },
  note: { of: (row) => row.note || undefined },
  data: { of: (row) => row.data ?? undefined },
  device: { of: (row) => row.device ?? undefined },
  auroc: { of: (row) => row.auroc ?? undefined, kind: "number" },
  units: { of: (row) => row.units ?? undefined, kind: "number" },
  step: { of: (row) => row.step, kind: "number" },
  progress: { of: (row) => (row.planned ? Math.min(row.step / row.planned, 1) * 100 : undefined), kind: "number" },
  started: { of: (row) => row.started ?? undefined, kind: "date" },
  duration: { of: (row) => row.duration ?? undefined, kind: "span" },
  age: { of: (row) => (row.started === null ? undefined : Date.now() / 1000 - row.started), kind: "span" },
  archived: { of: (row) => (row.archived ? "yes" : "no"), exact: true, among: ["yes", "no"] },
  simulated: { of: (row) => (row.simulated ? "yes" : "no"), exact: true, among: ["yes", "no"] },
};
const ALIASES = { tags: "tag", dataset: "data", best_auroc: "auroc", active_units: "units", notes: "note", run: "name" };

function optionOf(row, name, defaults) {
  if (Object.hasOwn(row.config, name)) return row.config[name];
  return row.like && !row.lacks?.includes(name) ? defaults[name] : undefined;
}

function distance(a, b) {
  let above = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (let i = 1; i <= a.length; i++) {
    const line = [i];
    for (let j = 1; j <= b.length; j++) {
      line.push(Math.min(above[j] + 1, line[j - 1] + 1, above[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    above = line;
  }
  return above[b.length];
}

function nearest(name, known) {
  const far = (one) => Math.min(distance(name, one), distance(name, one.split(".").at(-1)) + 0.5);
  return known.map((one) => [far(one), one]).sort((a, b) => a[0] - b[0])[0]?.[1];
}

// The field of that name: one of the list's own, or an option by its dotted name, or by its last part where one group has it.
function fieldOf(given, facts) {
  const name = ALIASES[lower(given)] ?? given;
  if (Object.hasOwn(FIELDS, lower(name))) return { id: lower(name), ...FIELDS[lower(name)] };
  const found = facts.options.includes(name) ? [name] : facts.options.filter((one) => one.split(".").at(-1) === name);
  if (found.length > 1) throw new Error(`${given} could be ${found.join(" or ")}: write it out`);
  if (!found.length) {
    throw new Error(`There is no field ${given}; did you mean ${nearest(name, [...Object.keys(FIELDS), ...facts.options])}?`);
  }
  return { id: found[0], option: true, exact: true, of: (row) => optionOf(row, found[0], facts.defaults) };
}

// Words as they were typed, quotes taken away; `plain` letters stand before the first quote.
function split(text) {
  const words = [];
  let word = null;
  let quoted = false;
  for (const letter of text) {
    if (letter === '"') {
      word ??= { text: "", plain: Infinity };
      word.plain = Math.min(word.plain, word.text.length);
      quoted = !quoted;
    } else if (!quoted && /\s/.test(letter)) {
      if (word) words.push(word);
      word = null;
    } else {
      word ??= { text: "", plain: Infinity };
      word.text += letter;
    }
  }
  if (quoted) throw new Error('A quote " is left open: close it');
  return word ? [...words, word] : words;
}

function fits(pattern, exact) {
  const wanted = lower(pattern);
  if (/[*?]/.test(wanted)) {
    const shape = wanted.replace(/[.+^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", ".");
    const whole = new RegExp(`^${shape}$`, "su");
    return (value) => whole.test(lower(value));
  }
  return exact ? (value) => lower(value) === wanted : (value) => lower(value).includes(wanted);
}

const SPANS = { s: 1, min: 60, m: 60, h: 3600, d: 86400 };
const COMPARE = { ">": (a, b) => a > b, ">=": (a, b) => a >= b, "<": (a, b) => a < b, "<=": (a, b) => a <= b, "=": (a, b) => a === b };

function limitOf(field, text, word) {
  if (field.kind === "span") {
    const parts = /^(\d+(?:\.\d+)?)(s|min|m|h|d)$/.exec(text);
    if (!parts) throw new Error(`${word}: write a time as 90min, 2h or 3d`);
    return Number(parts[1]) * SPANS[parts[2]];
  }
  if (field.kind === "date") {
    if (!/^\d{4}(-\d\d(-\d\d(T[\d:]+)?)?)?$/.test(text)) throw new Error(`${word}: write a day as 2026-11-24`);
    return text;
  }
  if (text.trim() === "" || Number.isNaN(Number(text))) throw new Error(`${word}: write a number, as in ${field.id}>0.5`);
  return Number(text);
}

function comparison(field, operator, text, word) {
  if (field.kind === "date") {
    const limit = limitOf(field, text, word);
    const read = (row) => (field.of(row) === undefined ? undefined : new Date(field.of(row) * 1000).toISOString().slice(0, limit.length));
    return (row) => read(row) !== undefined && COMPARE[operator](read(row), limit);
  }
  if (operator === "=" && field.kind === undefined) {
    const number = text.trim() === "" ? NaN : Number(text);
    const same = fits(text, true);
    const values = (row) => field.many?.(row) ?? [field.of(row)];
    return (row) => values(row).some((value) => value !== undefined && (value === number || same(shown(value))));
  }
  const limit = limitOf(field, text, word);
  return (row) => { const value = field.of(row); return typeof value === "number" && COMPARE[operator](value, limit); };
}

function testOf(word, facts) {
  if (word.text.startsWith("-") && word.text.length > 1 && word.plain > 0) {
    const excluded = testOf({ text: word.text.slice(1), plain: word.plain - 1 }, facts);
    return (row) => !excluded(row);
  }
  const found = /^([A-Za-z_][\w.]*)(>=|<=|!=|==|=|>|<|:)/.exec(word.text);
  if (!found || found[0].length > word.plain) {
    const has = fits(word.text, false);
    return (row) => [row.name, row.data ?? "", row.note, row.reason ?? "", row.device ?? "", ...row.tags, row.verdict?.title ?? ""].some(has);
  }
  const field = fieldOf(found[1], facts);
  const text = word.text.slice(found[0].length);
  const operator = found[2] === "==" ? "=" : found[2];
  if (field.among && !/[*?]/.test(text) && !field.among.includes(lower(text))) {
    throw new Error(`${word.text}: ${field.id} is one of ${field.among.join(", ")}`);
  }
  if (operator === ":" && field.kind === undefined && !field.option) {
    const has = fits(text, field.exact);
    return (row) => (field.texts?.(row) ?? [field.of(row)]).some((value) => value !== undefined && has(value));
  }
  if (operator === "!=") {
    const same = comparison(field, "=", text, word.text);
    return (row) => field.of(row) !== undefined && !same(row);
  }
  return comparison(field, operator === ":" ? "=" : operator, text, word.text);
}

// A test of rows from what people type; throws an Error whose message says what to write instead.
function parse(text, facts) {
  const words = split(text);
  const tests = words.map((word) => testOf(word, facts));
  const asksArchived = words.some((word) => /^-?archived[:=!]/i.test(word.text));
  return { asksArchived, test: (row) => tests.every((test) => test(row)) };
}

const natural = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return natural.compare(String(a), String(b));
}

// What is not known comes last in both directions; equals stay newest first.
function sorted(rows, sort, facts) {
  const newest = (a, b) => (a.started === null) - (b.started === null) || b.started - a.started || natural.compare(a.name, b.name);
  if (!sort) return rows.sort(newest);
  const field = fieldOf(sort.id, facts);
  const read = field.order ?? field.of;
  const keyed = rows.map((row) => [read(row) ?? undefined, row]);
  keyed.sort(([a, one], [b, other]) =>
    (a === undefined) - (b === undefined) || (a === undefined ? 0 : sort.down ? compare(b, a) : compare(a, b)) || newest(one, other));
  return keyed.map(([, row]) => row);
}

const shown = (value) => (value === null ? "none" : Array.isArray(value) ? value.join(", ") : String(value));

// [{ key, label, rows }]: a run with several tags is in each of their groups.
function grouped(rows, id, facts) {
  const field = fieldOf(id, facts);
  const groups = new Map();
  for (const row of rows) {
    const value = field.of(row);
    const many = field.many ? field.many(row) : value === undefined ? [] : [value];
    for (const one of many.length ? many : [undefined]) {
      const key = one === undefined ? "" : `=${shown(one)}`;
      if (!groups.has(key)) groups.set(key, { key, value: one, label: one === undefined ? `no ${id}` : shown(one), rows: [] });
      groups.get(key).rows.push(row);
    }
  }
  return [...groups.values()].sort((a, b) => (a.key === "") - (b.key === "") || compare(a.value, b.value));
}
