// Prints the addresses that bitcoinjs-lib derives from private keys:
// { p2pkh: [one for each key], p2sh: the m-of-n multisig of all of them, keys: [hex] }.
import { readFileSync } from 'node:fs'
import * as bitcoin from 'bitcoinjs-lib'
import { ECPairFactory } from 'ecpair'
import * as ecc from '@bitcoinerlab/secp256k1'

const job = JSON.parse(readFileSync(0, 'utf8'))
const network = {
  ...bitcoin.networks.testnet,
  pubKeyHash: job.versions.pubKeyHash,
  scriptHash: job.versions.scriptHash,
  wif: job.versions.privateKey,
}
const pairs = job.wifs.map((wif) => ECPairFactory(ecc).fromWIF(wif, network))
const pubkeys = pairs.map((p) => Buffer.from(p.publicKey))
process.stdout.write(JSON.stringify({
  p2pkh: pubkeys.map((pubkey) => bitcoin.payments.p2pkh({ pubkey, network }).address),
  p2sh: bitcoin.payments.p2sh({ redeem: bitcoin.payments.p2ms({ m: job.m, pubkeys, network }), network }).address,
  keys: pubkeys.map((k) => k.toString('hex')),
}))
