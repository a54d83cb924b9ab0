// What the browser tests are made of: comparisons that say what differs, and sections that are timed.

export function same(what, found, wanted) {
  const [a, b] = [found, wanted].map((value) => JSON.stringify(value));
  if (a !== b) throw new Error(`${what}: ${a} instead of ${b}`);
}

export function check(what, holds, told = "") {
  if (!holds) throw new Error(`not so: ${what} ${told}`);
}

/** A comparison that accepts everything proves nothing. */
for (const wrong of [() => same("numbers", [1, 2], [1, 3]), () => same("lengths", [1], [1, 1]), () => check("no", false)]) {
  let refused = false;
  try {
    wrong();
  } catch {
    refused = true;
  }
  if (!refused) throw new Error("the comparisons of the browser tests compare nothing");
}

/** What takes longer hangs, on whatever machine. */
const HANGS_MS = 900_000;

/** Runs a test; returns 1 if it failed. */
export async function section(name, test) {
  const start = Date.now();
  const seconds = () => `${((Date.now() - start) / 1000).toFixed(1)} s`;
  try {
    let timer;
    const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error("it hangs")), HANGS_MS)));
    const told = await Promise.race([test(), late]).finally(() => clearTimeout(timer));
    console.log(`pass ${name} (${seconds()})${told ? `: ${told}` : ""}`);
    return 0;
  } catch (error) {
    console.log(`FAIL ${name} (${seconds()})\n     ${error.stack ?? error}`);
    return 1;
  }
}
