// Builds and signs one transaction with bitcoinjs-lib, which knows nothing of
// this chain but its three version bytes.
//
// stdin: { versions: {pubKeyHash, scriptHash, privateKey},
//          inputs: [{ previous: hex of the whole transaction, index, wifs, redeem?: {m, keys: [hex]}, sequence? }],
//          outputs: [{ address, value } | { data: hex }], lockTime? }
// stdout: the signed transaction in hex.
import { readFileSync } from 'node:fs'
import * as bitcoin from 'bitcoinjs-lib'
import { ECPairFactory } from 'ecpair'
import * as ecc from '@bitcoinerlab/secp256k1'

const ECPair = ECPairFactory(ecc)
const job = JSON.parse(readFileSync(0, 'utf8'))
const network = {
  ...bitcoin.networks.testnet,
  pubKeyHash: job.versions.pubKeyHash,
  scriptHash: job.versions.scriptHash,
  wif: job.versions.privateKey,
}

const psbt = new bitcoin.Psbt({ network, maximumFeeRate: 1e6 })
psbt.setVersion(2)
if (job.lockTime) psbt.setLocktime(job.lockTime)
for (const input of job.inputs) {
  const previous = bitcoin.Transaction.fromHex(input.previous)
  const redeem = input.redeem && bitcoin.payments.p2ms({
    m: input.redeem.m, pubkeys: input.redeem.keys.map((k) => Buffer.from(k, 'hex')), network,
  }).output
  psbt.addInput({
    hash: previous.getId(), index: input.index, nonWitnessUtxo: Buffer.from(input.previous, 'hex'),
    sequence: input.sequence ?? 0xffffffff, ...(redeem ? { redeemScript: redeem } : {}),
  })
}
for (const output of job.outputs) {
  psbt.addOutput('data' in output
    ? { script: bitcoin.payments.embed({ data: [Buffer.from(output.data, 'hex')] }).output, value: 0 }
    : { address: output.address, value: output.value })
}
job.inputs.forEach((input, i) => {
  for (const wif of input.wifs) psbt.signInput(i, ECPair.fromWIF(wif, network))
})
psbt.finalizeAllInputs()
process.stdout.write(psbt.extractTransaction(true).toHex())
