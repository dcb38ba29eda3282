// Who signs, who votes, and what votes prove: C7, C9 and C10 of docs/protocol.md
// and docs/votes.md, for check-chain.mjs. Shares nothing with the node.
import { Reader, isKey, must, tagged, u32, verifies } from './bytes.mjs'

const maxRecords = 16, maxVoters = 32, maxSlots = 64, takeover = 36

const equal = (a, b) => a.height === b.height && a.id.equals(b.id)
const has = (keys, key) => keys.some((k) => k.equals(key))
const bits = (mask) => [...Array(32).keys()].filter((i) => (mask >>> i) & 1)
const setID = (set) => tagged('qcity/validators', u32(set.number), ...set.keys)
const certifies = (n) => Math.floor(n / 2) + 1
const finalises = (n) => n - certifies(n) + 2

// electorate is who may vote on a slot: a set and, during a handover, its successor.
function electorate(sets, disabled) {
  const keys = []
  for (const set of sets) for (const k of set.keys) if (!has(keys, k)) keys.push(k)
  return {
    sets, keys, disabled: keys.filter((k) => has(disabled, k)),
    id: sets.length === 1 ? setID(sets[0]) : tagged('qcity/validators/joint', setID(sets[0]), setID(sets[1])),
  }
}

// reaches tells whether these signers are a quorum of each set.
const reaches = (voters, signers, quorum) => voters.sets.every((set) => {
  const count = bits(signers).filter((i) => i < voters.keys.length && has(set.keys, voters.keys[i]) && !has(voters.disabled, voters.keys[i])).length
  return count >= quorum(set.keys.length)
})

const readCheckpoint = (r) => ({ height: r.u32(), id: r.hash() })
function readLink(r) {
  const bytes = r.rest.subarray(0, 104)
  return { bytes, set: r.hash(), source: readCheckpoint(r), target: readCheckpoint(r) }
}
const readAttestation = (r) => {
  const link = readLink(r), index = r.u8()
  must(index < maxVoters, r.what + ': voter index')
  return { link, index, signature: r.bytes(64) }
}
const readSignatures = (r, signers) => bits(signers).map((index) => ({ index, signature: r.bytes(64) }))
const readKey = (r) => r.bytes(34)

export function readCertificate(bytes, what) {
  const r = new Reader(bytes, what)
  const link = readLink(r), signers = r.u32()
  must(signers !== 0, what + ': nobody signed')
  const signatures = readSignatures(r, signers)
  r.end()
  return { link, signers, signatures }
}

// readRecords reads the data output of a CoinOnline.
export function readRecords(script, where) {
  const s = new Reader(script, where + 'data output')
  must(s.u8() === 0x6a, where + 'data output')
  let size = s.u8()
  if (size === 0x4c) { size = s.u8(); must(size > 75, where + 'push is not the shortest') } else if (size === 0x4d) {
    size = s.bytes(2).readUInt16LE(); must(size > 255, where + 'push is not the shortest')
  } else must(size <= 75, where + 'push')
  const list = []
  const all = new Reader(s.bytes(size), where + 'records')
  s.end()
  for (let last = 0; all.rest.length > 0;) {
    const kind = all.u8(), what = where + `record ${list.length} of kind ${kind}`
    must(kind >= last && kind >= 1 && kind <= 5 && !(kind === 5 && last === 5), what + ': order or kind')
    last = kind
    const body = all.bytes(all.varint()), r = new Reader(body, what)
    if (kind === 1) { list.push({ kind, what, ...readCertificate(body, what) }); continue }
    if (kind === 2) {
      const keys = Array.from({ length: r.varint() }, () => readKey(r)), signers = r.u32()
      list.push({ kind, what, keys, signers, signatures: readSignatures(r, signers) })
    } else if (kind === 5) list.push({ kind, what, audit: r.bytes(40) }) // the signer's, nothing of the chain
    else if (kind === 3) list.push({ kind, what, votes: [readAttestation(r), readAttestation(r)] })
    else {
      const e = { kind, what, set: r.hash(), height: r.u32(), index: r.u8() }
      e.blocks = [0, 1].map(() => ({ id: r.hash(), signature: r.bytes(64) }))
      list.push(e)
    }
    r.end()
  }
  must(list.length <= maxRecords, where + 'too many records')
  return list
}

// Authority is what a chain says of its validators, from genesis on.
export class Authority {
  constructor(net, networkID, keys) {
    this.net = net
    this.network = networkID
    this.signers = { number: 0, keys }
    this.next = null
    this.disabled = []
    this.final = { height: 0, id: networkID }
    this.slots = [{ ...this.final, voters: null, certified: true }]
    this.every = [...this.slots] // of the whole chain
    this.votes = new Map() // link in hex → { link, signers, voters }, of verified certificates
    this.voters = electorate([this.signers], [])
  }

  // signature checks the VchBlockSig of the next block.
  signature(height, id, index, signature, where) {
    const key = this.signers.keys[index]
    must(!has(this.disabled, key), where + 'the validator is disabled (C10)')
    must(verifies(key, this.slotDigest(setID(this.signers), height, id), signature), where + 'signature (C5)')
  }

  slotDigest(set, height, id) { return tagged('qcity/poo/block', this.network, set, u32(height), id) }
  linkDigest(link) { return tagged('qcity/poo/attest', this.network, link.bytes) }

  // wellFormed tells whether a link may be voted for at all.
  wellFormed({ source, target }) {
    const n = this.net.n
    return target.height > 0 && target.height % n === 0 && source.height % n === 0 && source.height < target.height &&
      (source.height > 0 || source.id.equals(this.network))
  }

  // verify checks everything about a certificate but that its source is certified.
  verify(c, voters, what) {
    must(this.wellFormed(c.link), what + ': link (C7)')
    must(c.link.set.equals(voters.id), what + ': made under another electorate (C7)')
    for (const { index } of c.signatures) {
      must(index < voters.keys.length, what + ': no such voter (C7)')
      must(!has(voters.disabled, voters.keys[index]), what + ': a disabled voter (C10)')
    }
    must(reaches(voters, c.signers, certifies), what + ': no quorum (C7)')
    for (const { index, signature } of c.signatures) {
      must(verifies(voters.keys[index], this.linkDigest(c.link), signature), what + `: signature of voter ${index} (C7)`)
    }
    const key = c.link.bytes.toString('hex'), seen = this.votes.get(key)
    this.votes.set(key, { link: c.link, voters, signers: (c.signers | (seen?.signers ?? 0)) >>> 0 })
  }

  // block takes the next signed block and what it carries.
  block(height, id, records) {
    const voters = this.voters
    for (const r of records) if (r.kind !== 5) [this.certificate, this.setChange, this.evidence, this.slotEvidence][r.kind - 1].call(this, r)
    if (this.next && !this.carrier) this.carrier = { height, id }
    else if (this.next && (this.final.height >= this.carrier.height || this.depth >= takeover)) {
      this.signers = this.next
      this.next = null
    }
    const slot = { height, id, voters, certified: false }
    this.every.push(slot)
    this.slots = [...this.slots, slot].filter((s) => s.height >= this.final.height)
    if (this.slots.length > maxSlots) {
      const highest = this.slots.findLast((s) => s.certified) ?? this.final
      this.slots.splice(equal(this.slots[0], highest) ? 1 : 0, 1)
    }
    this.voters = electorate(this.next ? [this.signers, this.next] : [this.signers], this.disabled)
  }

  certificate(c) {
    const { source, target } = c.link
    const from = this.slots.find((s) => equal(s, source)), to = this.slots.find((s) => equal(s, target))
    must(from?.certified, c.what + ': the source is not certified here (C7)')
    must(to?.voters, c.what + ': the target is no recent slot of this chain (C7)')
    const final = target.height - source.height === this.net.n && source.height > this.final.height && reaches(to.voters, c.signers, finalises)
    must(!to.certified || final, c.what + ': proves nothing new (C7)')
    this.verify(c, to.voters, c.what)
    if (!to.certified && this.next && target.height > this.carrier.height) this.depth++
    to.certified = true
    if (final) this.final = { height: source.height, id: source.id }
  }

  setChange(c) {
    const { net, signers } = this
    must(!this.next, c.what + ': another change is under way (C9)')
    must(c.keys.length % 2 === 1 && c.keys.length <= 21 && c.keys.length * net.rankStepSeconds < net.slotOpenSeconds, c.what + ': number of keys (C9)')
    must(c.keys.every((k, i) => isKey(k) && !has(c.keys.slice(0, i), k) && !has(this.disabled, k)), c.what + ': keys (C9)')
    const next = { number: signers.number + 1, keys: c.keys }
    must(electorate([signers, next], []).keys.length <= maxVoters, c.what + ': too many keys together (C9)')
    must(c.signatures.every(({ index }) => index < signers.keys.length), c.what + ': no such validator (C9)')
    const count = c.signatures.filter(({ index }) => !has(this.disabled, signers.keys[index])).length
    must(count >= certifies(signers.keys.length), c.what + ': no quorum (C9)')
    const digest = tagged('qcity/poo/set', this.network, setID(signers), setID(next))
    for (const { index, signature } of c.signatures) {
      must(verifies(signers.keys[index], digest, signature), c.what + `: signature of validator ${index} (C9)`)
    }
    this.next = next
    this.carrier = null
    this.depth = 0
  }

  // disable takes a key that evidence proves to be dishonest.
  disable(key, what) {
    must(!has(this.disabled, key), what + ': disabled already (C10)')
    this.disabled.push(key)
  }

  evidence(e) {
    const known = [this.voters, ...this.slots.map((s) => s.voters).filter((v) => v)]
    const keys = e.votes.map(({ link, index }) => {
      must(this.wellFormed(link), e.what + ': a vote that does not count (C10)')
      return known.find((v) => v.id.equals(link.set))?.keys[index]
    })
    must(keys[0] && keys[1] && keys[0].equals(keys[1]), e.what + ': not two votes of one voter (C10)')
    const [a, b] = e.votes.map((v) => v.link).sort((x, y) => x.target.height - y.target.height)
    must(!a.bytes.equals(b.bytes), e.what + ': one vote twice (C10)')
    must(a.target.height === b.target.height || (!equal(a.source, b.source) && b.source.height <= a.source.height),
      e.what + ': the votes do not conflict (C10)')
    e.votes.forEach((v) => must(verifies(keys[0], this.linkDigest(v.link), v.signature), e.what + ': signature (C10)'))
    this.disable(keys[0], e.what)
  }

  slotEvidence(e) {
    const sets = [this.signers, ...this.slots.filter((s) => s.voters).map((s) => s.voters.sets[0])]
    const key = sets.find((s) => setID(s).equals(e.set))?.keys[e.index]
    must(key, e.what + ': no such validator (C10)')
    must(!e.blocks[0].id.equals(e.blocks[1].id), e.what + ': one block twice (C10)')
    e.blocks.forEach((b) => must(verifies(key, this.slotDigest(e.set, e.height, b.id), b.signature), e.what + ': signature (C10)'))
    this.disable(key, e.what)
  }

  // known counts a certificate from elsewhere. One for another chain says nothing
  // about this one, and is left out.
  known(c, what) {
    const on = (x) => this.every.find((s) => equal(s, x))
    if (!on(c.link.target)?.voters || !on(c.link.source)) return false
    this.verify(c, on(c.link.target).voters, what)
    return true
  }

  // tally answers, from all verified certificates, which slots are certified and
  // final, the highest of each.
  tally() {
    const certified = [this.every[0]], is = (x) => certified.some((s) => equal(s, x))
    const links = [...this.votes.values()].sort((a, b) => a.link.target.height - b.link.target.height)
    for (const v of links) if (is(v.link.source) && !is(v.link.target)) certified.push(v.link.target)
    const final = links.filter((v) => is(v.link.source) && v.link.target.height - v.link.source.height === this.net.n && reaches(v.voters, v.signers, finalises))
    const highest = (list) => list.reduce((top, c) => (c.height > top.height ? c : top), this.every[0])
    return { certified: highest(certified), final: highest(final.map((v) => v.link.source)) }
  }
}
