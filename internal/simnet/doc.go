// Package simnet runs a whole network in one process and in virtual time: what
// is tested is the code that ships, and only three things are modelled: the
// links between nodes, the time miners take to find a block, and the token that
// holds the keys.
//
//	simnet.Run(t, simnet.Config{}, func(n *simnet.Net) {
//		n.Sleep(time.Hour)
//		n.Split([]int{0, 1, 2}, []int{3, 4})
//		…
//	})
//
// A run lives in the bubble of a testing/synctest. Time passes only when all
// goroutines wait, so that hours take seconds; which of two things that are due
// at one instant comes first is open, and what a test asserts must hold either way.
//
// A test that fails prints its timeline: who saw which slot, what became
// certified and final, who reorganised how deep.
package simnet
