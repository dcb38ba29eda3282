// Package cluster lets several machines hold one validator key. Before the token
// is asked, each signer claims what it is about to sign in etcd (v3), by
// compare-and-swap: the first claim of a key at a height wins, for ever, whoever made it.
//
// # What is relied on
//
// Of etcd: a transaction that writes is atomic and strictly ordered after every
// one that was acknowledged before it (Jepsen, etcd 3.4.3,
// https://jepsen.io/analyses/etcd-3.4.3). Nothing else. Leases and locks are not
// safe (same source): here a lease picks who tries first. Reads were seen to be
// stale after a pause (etcd-io/etcd#20418), so no decision rests on one: every
// question is a transaction both of whose branches write, which sends it through
// the log of the cluster. No clock is read.
//
// # One transaction
//
// A claim is written if, in the state it is applied to, no claim of that key and
// kind exists at the height, and the key's record of its last claim is the very
// revision that the rules were applied to. Both are then written together. So two
// machines cannot each extend the same past, and the rules for one key hold over
// all machines: heights of blocks and numbers of validator sets strictly increase;
// targets of votes strictly increase (S1), and a vote's source is the block of the last vote's
// source or strictly higher (S2). Claims and seals are written once and never changed
// or deleted. etcd's compaction drops old versions of a key only, so it does not touch them.
//
// # Ambiguity
//
// After a time-out a claim may have been made. The same claim is asked for again,
// never another: if what is stored is ours, we go on; if not, we are refused. It does
// not matter which of our attempts was the one that made it.
//
// # The pin
//
// A cluster that is restored from a snapshot or from a copied data directory forgets
// claims, keeps its identity, and would let rivals have them. So each signer keeps on its own
// disk: the cluster's and its members' ids, the highest revision it has seen,
// and for each key and kind the highest claim and the floor that it has seen. Let p be the highest
// revision known when a question is sent. Every question writes, so an honest answer
// has a revision above p: strictly, as one lost claim and one rival claim give
// p again. An answer that fails this, or that comes from another cluster or member, is never looked
// into, and the signer stops for a person. The answer must also still hold the highest claim
// seen and a floor no lower than that seen, which catches a cluster that fell back and has grown past p since.
//
// Why a signature is never released on a claim that a roll-back can take away
// unnoticed by us: Claim and Seal return only after the pin on disk (fsync, rename, fsync of
// the directory) has the revision of the answer they rest on, or a higher one.
//
//   - Crash before the pin is written: nothing was released on that claim. If etcd
//     loses it too, no harm is done; if not, asking again for the same finds it.
//   - Crash after: the pin has r, the revision of the claim. A cluster that lost
//     the claim was put back to r-1 or less. Whatever it grows to, either its next answer to us
//     is at r or below, and refused, or it grew by other claims, and then the highest
//     claim we pinned is gone, and it is refused as well.
//   - Several questions at once: each is held against the highest revision known when it was sent,
//     not when its answer came, since answers may overtake each other. Writing the pin for several at once
//     is sound, because the file has the highest of their revisions before any of them returns.
//
// A seal that is forgotten while its claim stays is not missed: its claim has its
// place, so no other payload can be signed, and the box that made the seal has it in
// its journal. When the box joins anew it brings the seal back; and a claim without a
// seal at or below a floor is not signed any more (Mark.closed).
//
// What the pin cannot do: a box can only miss what it has seen. A box that was off when a claim was made
// elsewhere accepts a cluster that forgot just that claim. Campaign therefore lets a
// stand-by see every revision within a second or so, and docs/cluster.md says how a cluster
// is restored: with a new token, so that every box stops until it has joined anew.
package cluster
