package simulate

// Reorganisation is a published one: how many blocks were undone on a chain with
// plain proof of work or, at Litecoin Cash, with bonus work for other blocks.
type Reorganisation struct {
	Chain string
	When  string // year and month, YYYY-MM, or two of them
	Depth int    // blocks undone
	// AtLeast: the source gives a lower bound.
	AtLeast bool
	Source  string
}

// Published lists reorganisations whose depth was published.
func Published() []Reorganisation {
	const (
		press = "cryptobriefing and cryptoglobe, August 2020"
		btg   = "gist metalicjames/74bf2a1c"
		lcc   = "gist metalicjames/82a49f8a"
	)
	all := []Reorganisation{
		{"Ethereum Classic", "2020-08", 3693, false, press},
		{"Ethereum Classic", "2020-08", 4000, true, press},
		{"Ethereum Classic", "2020-08", 7000, true, press},
		{"Litecoin Cash", "2019-07", 48, false, lcc},
		{"Litecoin Cash", "2019-07", 102, false, lcc},
	}
	for _, depth := range []int{14, 4, 15, 3, 8, 4, 4, 9} {
		all = append(all, Reorganisation{"Bitcoin Gold", "2020-01/02", depth, false, btg})
	}
	return all
}
