// Package rpc serves JSON-RPC in Bitcoin's names and shapes wherever a Bitcoin
// call exists, so that pool software, explorers and scripts written for Bitcoin
// work against this node. What is Qcity's own (slots, signers) is added beside
// Bitcoin's members and never instead of them.
//
// Calls are authorised by the cookie in the data directory, as bitcoind's are:
// whoever may read that file may call. A web page cannot, whatever name it has
// our address under (DNS rebinding) and whatever it makes a browser post here:
// it does not know the cookie, and browsers send no Authorization header to
// foreign servers without asking first, which is refused. So the Host header
// decides nothing. The transport is plain HTTP: keep it on the loopback
// interface or behind a tunnel.
//
// What a script can make the server hold is bounded: connections, requests
// being worked on, long polls, the size of a request and of a batch's answers.
package rpc
