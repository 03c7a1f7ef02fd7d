// The gateway's API: requests with the key, refusals in words that say what to do, and lines as they arrive.

import { words } from "./strings.js";
import { keyring } from "./prefs.js";

/** What went wrong. `wait`: seconds until another try makes sense; `again`: trying again may help. */
export class Trouble extends Error {
  constructor(text, { status = 0, again = false, wait = 0 } = {}) {
    super(text);
    Object.assign(this, { status, again, wait });
  }
}

/** Is the gateway open to everybody? Then no key is sent. */
export const gate = { open: false };

function headers(key) {
  const all = { "Content-Type": "application/json" };
  if (key) all.Authorization = `Bearer ${key}`;
  return all;
}

/** Seconds from a Retry-After header: a number, or a date (RFC 9110 section 10.2.3). */
export function retryAfter(value) {
  if (!value) return 0;
  const seconds = /^\d+$/.test(value.trim()) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.min(Math.max(Math.ceil(seconds), 0), 3600) : 0;
}

async function refusal(response, key) {
  let said = "";
  try {
    const body = await response.json();
    if (typeof body.error === "string") said = words.says(body.error);
  } catch {
    // Not ours, or cut off: the status alone must do.
  }
  const { status } = response;
  const known = words.trouble[status]?.(key) ?? words.refused(status);
  const quoted = [401, 500, 504].includes(status) ? "" : said;
  const again = status === 429 || status >= 500;
  return new Trouble(known + quoted, { status, again, wait: retryAfter(response.headers.get("Retry-After")) });
}

/** A request; an answer other than 2xx is a Trouble. */
export async function call(path, { key = gate.open ? "" : keyring.get(), body, signal, extra } = {}) {
  let response;
  try {
    response = await fetch(path, {
      method: body ? "POST" : "GET",
      headers: { ...headers(key), ...extra },
      body: body && JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble(navigator.onLine === false ? words.offline : words.unreachable, { again: true });
  }
  if (!response.ok) throw await refusal(response, key);
  return response;
}

export async function models(key) {
  const body = await (await call("/models", { key })).json().catch(() => ({}));
  return Array.isArray(body.models) ? body.models.filter((model) => typeof model?.name === "string") : [];
}

/** What the key may do; `null` where nobody says. */
export async function usage(key) {
  try {
    return await (await call("/usage", { key })).json();
  } catch {
    return null;
  }
}

/** Objects of an NDJSON stream, as the lines arrive. A line that is no JSON is passed over. */
export async function* lines(response) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    held += done ? decoder.decode() : decoder.decode(value, { stream: true });
    const parts = held.split("\n");
    held = done ? "" : parts.pop();
    for (const part of parts) {
      if (!part.trim()) continue;
      let object = null;
      try {
        object = JSON.parse(part);
      } catch {
        console.warn("a line of the answer is no JSON");
      }
      if (typeof object === "object" && object !== null) yield object;
    }
    if (done) return;
  }
}
