// The bench's task with sharp: node sharp.mjs FROM TO
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import sharp from "sharp";

sharp.concurrency(1);
sharp.cache(false);
const [from, to] = process.argv.slice(2);
for (const name of readdirSync(from).sort()) {
  const made = await sharp(readFileSync(join(from, name)))
    .rotate()
    .resize(300, 300, { fit: "cover", position: "entropy", withoutEnlargement: true })
    .flatten({ background: "#ffffff" })
    .jpeg({ quality: 90, chromaSubsampling: "4:2:0" })
    .toBuffer();
  writeFileSync(join(to, name), made);
}
