// Checks `qcity chain export` (JSON lines on stdin) with code that shares
// nothing with the node: docs/protocol.md, other people's hashes and curves.
// Prints a summary; exits 1 with the first rule that does not hold.
import { readFileSync } from 'node:fs'
import * as bitcoin from 'bitcoinjs-lib'
import { algorithms, display, must, number, reversed, sha256d, tagged } from './bytes.mjs'
import { Authority, readCertificate, readRecords } from './authority.mjs'

const lines = readFileSync(0, 'utf8').trimEnd().split('\n').map((l) => JSON.parse(l))
const { network: net, certificates } = lines.shift()

const expand = (bits) => {
  const exponent = bits >>> 24, mantissa = BigInt(bits & 0x7fffff)
  return exponent > 3 ? mantissa << BigInt(8 * (exponent - 3)) : mantissa >> BigInt(8 * (3 - exponent))
}
const compact = (target) => {
  let size = Math.ceil(target.toString(16).length / 2)
  let mantissa = size <= 3 ? target << BigInt(8 * (3 - size)) : target >> BigInt(8 * (size - 3))
  if (mantissa & 0x800000n) { mantissa >>= 8n; size++ }
  return ((size << 24) | Number(mantissa)) >>> 0
}

const limit = expand(parseInt(net.powLimitBits, 16))
let anchor
// asert: the target after a block of this height and time (aserti3-2d).
const asert = (height, time) => {
  const T = BigInt(net.intervalSeconds)
  const exponent = ((BigInt(time - anchor.time) + T - T * BigInt(height + 1)) * 65536n) / BigInt(net.halfLifeSeconds)
  const shifts = exponent >> 16n, x = exponent - (shifts << 16n)
  const factor = ((195766423245049n * x + 971821376n * x * x + 5127n * x * x * x + (1n << 47n)) >> 48n) + 65536n
  let next = anchor.target * factor
  next = shifts < 0n ? next >> -shifts : next << shifts
  next >>= 16n
  if (next === 0n) next = 1n
  return compact(next > limit ? limit : next)
}

const networkID = reversed(Buffer.from(net.id, 'hex'))
must(lines[0].id === net.id, 'the network id is not the id of block 0')
const authority = new Authority(net, networkID, net.validators.map((v) =>
  Buffer.concat([Buffer.from([algorithms[v.algorithm]]), Buffer.from(v.publicKey, 'hex')])))

const merkle = (ids) => {
  while (ids.length > 1) {
    const next = []
    for (let i = 0; i < ids.length; i += 2) next.push(sha256d(Buffer.concat([ids[i], ids[i + 1] ?? ids[i]])))
    ids = next
  }
  return ids[0]
}

const coins = new Map() // outpoint → value
let parent, signed = 0, transactions = 0, records = 0
lines.forEach((line, height) => {
  const where = `block ${height}: `
  const header = Buffer.from(line.header, 'hex'), sig = Buffer.from(line.vchBlockSig, 'hex')
  const time = header.readUInt32LE(68), bits = header.readUInt32LE(72), nonce = header.readUInt32LE(76)
  const hash = sha256d(header)
  must(header.length === 80 && line.height === height && line.id === display(hash), where + 'height or id')
  const txs = line.tx.map((t) => bitcoin.Transaction.fromHex(t))
  must(merkle(txs.map((t) => t.getHash())).equals(header.subarray(36, 68)), where + 'Merkle root')

  if (height === 0) {
    anchor = { time, target: expand(bits) }
    const script = txs[0].ins[0].script
    must(line.type === 'genesis' && script.subarray(2).equals(tagged('qcity/params', Buffer.from(net.parameters, 'hex'))),
      where + 'the coinbase does not commit to the parameters')
    parent = { hash, time }
    return
  }
  const slot = height % net.n === 0
  must(header.subarray(4, 36).equals(parent.hash), where + 'parent')
  must(time > parent.time, where + 'time order (C1)')
  must(bits === asert(height - 1, parent.time), where + 'bits')
  if (sig.length === 0) {
    must(number(reversed(hash)) <= expand(bits), where + 'proof of work (C2)')
    must(!slot || time > parent.time + net.slotOpenSeconds, where + 'fallback too early (C4)')
    must(line.type === (slot ? 'fallback' : 'mined') && line.signer === null, where + 'type')
  } else {
    const n = authority.signers.keys.length, index = sig[0]
    must(slot && sig.length === 65 && index < n && nonce === 0, where + 'signed block form (C3)')
    const rank = (((index - height / net.n) % n) + n) % n
    must(time >= parent.time + rank * net.rankStepSeconds && time <= parent.time + net.slotCloseSeconds, where + 'slot window (C3)')
    authority.signature(height, hash, index, sig.subarray(1), where)
    must(line.type === 'signed' && line.signer === index, where + 'type')
    signed++
  }

  let fees = 0
  txs.slice(1).forEach((tx) => {
    for (const input of tx.ins) {
      const key = display(input.hash) + ':' + input.index
      must(coins.has(key), where + 'spends what is not there')
      fees += coins.get(key)
      coins.delete(key)
    }
    for (const out of tx.outs) fees -= out.value
    transactions++
    must(fees >= 0, where + 'outputs exceed inputs')
    tx.outs.forEach((out, i) => coins.set(tx.getId() + ':' + i, out.value))
  })
  const first = txs[0], paid = first.outs.reduce((sum, out) => sum + out.value, 0)
  const push = bitcoin.script.compile([bitcoin.script.number.encode(height)])
  must(first.isCoinbase() && first.ins[0].script.subarray(0, push.length).equals(push), where + 'height in the coinbase')
  if (sig.length === 0) {
    const subsidy = Math.floor(net.subsidy / 2 ** Math.floor(height / net.halvingInterval))
    must(paid <= subsidy + fees, where + 'coinbase pays too much')
  } else {
    const key = authority.signers.keys[sig[0]], isP256 = key[0] === algorithms.p256
    const want = Buffer.concat([Buffer.from(isP256 ? [34, 2] : [33]), key.subarray(1), Buffer.from([0xac])])
    must(first.outs.length >= 2 && first.outs.length <= 3 && first.outs[0].value === 0 && first.outs[0].script.length === 0 &&
      first.outs[1].value === fees && first.outs[1].script.equals(want), where + 'CoinOnline')
    const data = first.outs[2]
    must(!data || data.value === 0, where + 'data output')
    const carried = data ? readRecords(data.script, where) : []
    records += carried.length
    authority.block(height, hash, carried)
  }
  first.outs.forEach((out, i) => coins.set(first.getId() + ':' + i, out.value))
  parent = { hash, time }
})
const name = (c) => ({ height: c.height, id: display(c.id) })
const proven = { certified: authority.slots.findLast((s) => s.certified) ?? authority.final, final: authority.final }
const alone = authority.tally() // by votes in blocks: counted another way, it is the same
must(alone.certified.height === proven.certified.height && alone.final.height === proven.final.height,
  'the chain and the count of its votes differ: the check itself is wrong')
const elsewhere = certificates.map((c, i) => authority.known(readCertificate(Buffer.from(c, 'hex'), `certificate ${i}`), `certificate ${i}`))
const all = authority.tally()
console.log(JSON.stringify({
  blocks: lines.length, signed, transactions, tip: display(parent.hash), records,
  certificates: elsewhere.filter((on) => on).length,
  proven: { certified: name(proven.certified), final: name(proven.final) },
  certified: name(all.certified), final: name(all.final),
  set: authority.signers.number, handover: authority.next !== null, disabled: authority.disabled.length,
}))
