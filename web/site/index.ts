import * as pocketlm from "../ts/index.js";
Object.assign(globalThis, { pocketlm });
