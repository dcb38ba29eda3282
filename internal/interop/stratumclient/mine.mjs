// Mines on a Stratum port with npm's stratum-client, which does the talking;
// the header is put together here, from what that client hands over. Reads
// { host, port, worker, shares }, prints what it saw and how its shares fared.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import connect from 'stratum-client'

const job = JSON.parse(readFileSync(0, 'utf8'))
const seen = { authorized: false, extranonce2Size: 0, difficulty: 0, jobs: 0, accepted: 0, refused: [] }

const sha256d = (b) => createHash('sha256').update(createHash('sha256').update(b).digest()).digest()
const hex = (s) => Buffer.from(s, 'hex')
const reversed = (b) => Buffer.from(b).reverse()
const words = (b) => Buffer.concat([...Array(b.length / 4).keys()].map((i) => reversed(b.subarray(4 * i, 4 * i + 4))))

// solve searches a header of the work that makes a block, which every share
// target admits: so the chain answers each of them with new work.
function solve(work, extranonce2) {
  const coinbase = hex(work.coinb1 + work.extraNonce1 + extranonce2 + work.coinb2)
  const root = work.merkle_branch.reduce((h, sibling) => sha256d(Buffer.concat([h, hex(sibling)])), sha256d(coinbase))
  const head = Buffer.concat([reversed(hex(work.version)), words(hex(work.prevhash)), root, reversed(hex(work.ntime)), reversed(hex(work.nbits)), Buffer.alloc(4)])
  const bits = parseInt(work.nbits, 16)
  const target = BigInt(bits & 0x7fffff) << BigInt(8 * ((bits >>> 24) - 3))
  for (let nonce = 0; nonce < 2 ** 32; nonce++) {
    head.writeUInt32LE(nonce, 76)
    if (BigInt('0x' + reversed(sha256d(head)).toString('hex')) <= target) return nonce.toString(16).padStart(8, '0')
  }
  throw new Error('no nonce is good enough')
}

let busy = false, tries = 0
const client = connect({
  server: job.host, port: job.port, worker: job.worker, password: 'x', autoReconnectOnError: false,
  onError: (e) => { console.error(e); process.exit(1) },
  onClose: () => { console.error('the server closed the connection'); process.exit(1) },
  onAuthorizeSuccess: () => { seen.authorized = true },
  onSubscribe: ({ extraNonce2Size }) => { seen.extranonce2Size = extraNonce2Size },
  onNewDifficulty: (d) => { seen.difficulty = d },
  onNewMiningWork: (work) => {
    seen.jobs++
    if (busy || seen.accepted >= job.shares) return
    busy = true
    const extranonce2 = (++tries).toString(16).padStart(2 * work.extraNonce2Size, '0')
    client.submit({ worker_name: job.worker, job_id: work.jobId, extranonce2, ntime: work.ntime, nonce: solve(work, extranonce2) })
  },
  onSubmitWorkSuccess: () => { busy = false; if (++seen.accepted === job.shares) end() },
  onSubmitWorkFail: (error) => { seen.refused.push(error); end() },
})

function end() {
  process.stdout.write(JSON.stringify(seen), () => process.exit(0))
}
