package types

// MerkleRoot returns the root of Bitcoin's Merkle tree over ids. mutated reports
// that two equal hashes were paired somewhere, which lets a different list of
// transactions have the same root (CVE-2012-2459): such a block must be refused
// without remembering its id as bad.
func MerkleRoot(ids []Hash) (root Hash, mutated bool) {
	if len(ids) == 0 {
		return Hash{}, false
	}
	level := append([]Hash(nil), ids...)
	for len(level) > 1 {
		next := level[:0]
		for i := 0; i < len(level); i += 2 {
			right := level[i]
			if i+1 < len(level) {
				right = level[i+1]
				mutated = mutated || right == level[i]
			}
			next = append(next, hashPair(level[i], right))
		}
		level = next
	}
	return level[0], mutated
}

// MerkleBranch returns the siblings of leaf 0, leaf first.
func MerkleBranch(ids []Hash) []Hash {
	var branch []Hash
	level := append([]Hash(nil), ids...)
	for len(level) > 1 {
		branch = append(branch, level[1])
		next := level[:0]
		for i := 0; i < len(level); i += 2 {
			right := level[i]
			if i+1 < len(level) {
				right = level[i+1]
			}
			next = append(next, hashPair(level[i], right))
		}
		level = next
	}
	return branch
}

// FoldBranch returns the root that leaf 0 has with these siblings.
func FoldBranch(leaf Hash, branch []Hash) Hash {
	for _, sibling := range branch {
		leaf = hashPair(leaf, sibling)
	}
	return leaf
}

func hashPair(left, right Hash) Hash {
	var pair [64]byte
	copy(pair[:32], left[:])
	copy(pair[32:], right[:])
	return DoubleHash(pair[:])
}
