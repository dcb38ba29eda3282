// Verifies an export of the audit log (qcity audit export) as docs/audit.md
// describes it, with nothing but Node.js:
//
//   node verify.mjs audit.jsonl [SEQ:HASH …]
//
// The arguments after the file are heads that must be in the log, such as signed
// blocks carry. Prints the last head, or the first broken record and exits with 1.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'

const [file, ...anchors] = process.argv.slice(2)
const sha256 = (...parts) => parts.reduce((h, p) => h.update(p), createHash('sha256')).digest()
const tag = sha256('qcity/audit/entry')
const bytes = (hash) => Buffer.from(hash, 'hex').reverse() // hashes are shown reversed
const u64 = (n) => { const b = Buffer.alloc(8); b.writeBigUInt64LE(BigInt(n)); return b }
const canonical = (o) => JSON.stringify(o, Object.keys(o).sort()) // RFC 8785, as objects are flat
const zero = '00'.repeat(32)

let header = null, last = null, closed = true, lines = 0
const hashes = new Map()
const must = (ok, why) => { if (!ok) { console.log(`broken at record ${last ? last.seq + 1 : 0}: ${why}`); process.exit(1) } }

for (const line of readFileSync(file, 'utf8').split('\n').slice(0, -1)) {
  let r
  try { r = JSON.parse(line) } catch { must(false, 'no JSON') }
  const prev = r.prev ?? zero
  must(canonical({ ...r, entry: 0 }).replace('"entry":0', '"entry":' + canonical(r.entry)) === line, 'not canonical')
  if (closed) {
    must(r.entry.format === 1, 'no header of a file')
    must((prev === zero) === (r.seq === 0) && r.entry.seq === r.seq, 'the header contradicts itself')
    must(!header || (r.entry.continues === header.file && r.entry.network === header.network), 'another file')
    header = r.entry
  } else must(r.entry.time && r.entry.event, 'no entry')
  const begins = last && lines === 1 && r.seq > last.seq // an export that begins in the middle of a file
  must(!last || begins || (r.seq === last.seq + 1 && prev === last.hash), 'it does not follow the record before')
  const hash = sha256(tag, tag, bytes(header.network), Buffer.from(header.file, 'hex'), u64(r.seq), bytes(prev), canonical(r.entry))
  must(hash.reverse().toString('hex') === r.hash, 'the hash is wrong')
  closed = r.entry.event === 'rotated'
  last = r
  hashes.set(String(r.seq), r.hash)
  lines++
}
must(last, 'empty')
for (const [seq, hash] of anchors.map((a) => a.split(':'))) must(hashes.get(seq) === hash, `anchor ${seq}:${hash} is not in the log`)
console.log(`${lines} records, head ${last.seq}:${last.hash}`)
