// Hashes, signatures and a reader of bytes for check-chain.mjs.
import { createHash } from 'node:crypto'
import { secp256k1 } from '@noble/curves/secp256k1'
import { p256 } from '@noble/curves/p256'

export const sha256 = (...parts) => parts.reduce((h, p) => h.update(p), createHash('sha256')).digest()
export const sha256d = (b) => sha256(sha256(b))
export const tagged = (tag, ...parts) => sha256(sha256(tag), sha256(tag), ...parts)
export const reversed = (b) => Buffer.from(b).reverse()
export const display = (b) => reversed(b).toString('hex')
export const u32 = (n) => { const b = Buffer.alloc(4); b.writeUInt32LE(n); return b }
export const number = (b) => BigInt('0x' + Buffer.from(b).toString('hex'))

export const must = (ok, what) => { if (!ok) { console.error(what); process.exit(1) } }

// A key is its 34 bytes: 1 for secp256k1 or 2 for P-256, and the compressed point.
const curveOf = (key) => ({ 1: secp256k1, 2: p256 })[key[0]]
export const algorithms = { secp256k1: 1, p256: 2 }
export const isKey = (key) => {
  try { curveOf(key).ProjectivePoint.fromHex(key.subarray(1)).assertValidity(); return true } catch { return false }
}
export const verifies = (key, digest, signature) => {
  try { return curveOf(key).verify(signature, digest, key.subarray(1), { lowS: true }) } catch { return false }
}

// Reader reads bytes from front to back; what is missing or too long ends the check.
export class Reader {
  constructor(bytes, what) { this.rest = bytes; this.what = what }
  bytes(n) {
    must(this.rest.length >= n, this.what + ': cut off')
    const b = this.rest.subarray(0, n)
    this.rest = this.rest.subarray(n)
    return b
  }
  u8() { return this.bytes(1)[0] }
  u32() { return this.bytes(4).readUInt32LE() }
  hash() { return this.bytes(32) }
  varint() {
    const first = this.u8()
    if (first < 0xfd) return first
    must(first !== 0xff, this.what + ': absurd length')
    const n = first === 0xfd ? this.bytes(2).readUInt16LE() : this.u32()
    must(n >= (first === 0xfd ? 0xfd : 0x10000), this.what + ': a length in more bytes than it needs')
    return n
  }
  end() { must(this.rest.length === 0, this.what + ': something follows') }
}
