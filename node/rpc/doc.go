// Package rpc serves JSON-RPC in Bitcoin's names and shapes wherever a Bitcoin
// call exists, so that pool software, explorers and scripts written for Bitcoin
// work against this node. What is Qcity's own (slots, signers) is added beside
// Bitcoin's members and never instead of them.
//
// Calls are authorised by the cookie in the data directory, as bitcoind's are.
package rpc
