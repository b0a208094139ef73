// Azurite on a free port, which it tells, after a token that lets in whoever appends it to a URL. Everything is in memory. Ends with its standard
// input, so that no test leaves it behind.
"use strict";

const { createHmac } = require("crypto");

const [modules, account, key] = process.argv.slice(2);
// An account's shared access signature, of a version that has ten lines to sign.
const [rights, services, kinds, until, version] = ["rwdlac", "b", "sco", "2099-12-31T00:00:00Z", "2019-12-12"];
const lines = [account, rights, services, kinds, "", until, "", "", version, ""];
const signature = createHmac("sha256", Buffer.from(key, "base64")).update(lines.join("\n"), "utf8").digest("base64");
const token = { sv: version, ss: services, srt: kinds, sp: rights, se: until, sig: signature };
console.log(`token ${new URLSearchParams(token)}`);

process.env.AZURITE_ACCOUNTS = `${account}:${key}`;
process.argv.splice(2, 3, "--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence", "--disableTelemetry", "--silent");
require(`${modules}/azurite/dist/src/blob/main.js`);
process.stdin.resume().on("end", () => process.exit(0));
