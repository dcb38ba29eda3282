package hw

import (
	"cmp"
	"slices"
)

// Spread returns the usable CPUs in the order in which busy threads should take
// them: of every core the first usable CPU, then of every core the second, and so
// on. Within a round strong cores come first (big.LITTLE), then low numbers. It
// is empty where it is unknown which CPUs this process may use.
func (inv *Inventory) Spread() []int {
	usable, _ := inv.Usable.CPUs.Get()
	type place struct{ cpu, round, capacity int }
	var places []place
	taken := map[int]int{} // usable CPUs of a core so far, by its lowest CPU
	for _, cpu := range usable {
		p := place{cpu: cpu}
		core := cpu // alone, if it is not known with whom
		if i := slices.IndexFunc(inv.CPUs, func(c LogicalCPU) bool { return c.ID == cpu }); i >= 0 {
			p.capacity = inv.CPUs[i].Capacity.Or(0)
			if siblings := inv.CPUs[i].Siblings.Or(nil); len(siblings) > 0 {
				core = siblings[0]
			}
		}
		p.round = taken[core]
		taken[core]++
		places = append(places, p)
	}
	slices.SortStableFunc(places, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.round, b.round), cmp.Compare(b.capacity, a.capacity), cmp.Compare(a.cpu, b.cpu))
	})
	order := make([]int, len(places))
	for i, p := range places {
		order[i] = p.cpu
	}
	return order
}
