// Package worker is the signer's side of the PKCS#11 worker: the wire protocol
// both sides speak, the errors they agree on, and the Supervisor that starts,
// watches, cuts off and replaces the worker process.
//
// A PKCS#11 module is foreign code that was seen to crash, to hang for ever
// and to sign with the wrong key. It therefore lives in a process of its own,
// qcity-p11, which is the only program here built with cgo. The signer daemon
// holds one end of a socket pair; nothing else connects the two. What the
// daemon relies on:
//
//   - every call has a deadline, after which the worker is killed and replaced;
//   - signatures are made side by side, each in a session of its own, and everything
//     else alone: a call that fails takes its session with it, and one that hangs
//     the worker, whose other calls are made again in the next one;
//   - the worker can write, read, signal and reach only what Sandbox leaves it;
//   - handles never leave the worker and die with it ("generation"), because a
//     handle kept across a re-initialisation was seen to sign with another key;
//   - every signature is normalised to low S and verified here against the
//     caller's public key before it is returned;
//   - a wrong PIN is tried once and never again by itself: tokens lock;
//   - a login is not interrupted: SoftHSM 2.6 truncates and rewrites its token
//     file at each login, so a process killed in the middle can lose the token.
//
// The worker signs whatever 32 bytes it is given. It is the daemon that parses
// what is signed; nothing outside the daemon may reach this package.
package worker
