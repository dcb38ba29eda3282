// Package found sees to it that no block that this box found is ever lost: not by
// a kill, a power cut or a full disk, and not while the chain holds it in memory
// only, as it does with a fallback block that is not due yet.
//
// A block is journaled, then the books are told, then the chain gets it. Its record
// stays open until its fate is decided: it is on the best chain, another block took
// its height, or the chain refused it for good. Open records are offered to the
// chain again at every start, and whenever it lost one: offering a block twice does
// no harm. Where the journal fails the block goes to the chain all the same.
package found
