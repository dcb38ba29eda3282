package hw

import (
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
)

// Usable says which CPUs this process may run on.
type Usable struct {
	// CPUs is the affinity mask, rising (taskset, cpusets, containers).
	CPUs Reading[[]int] `json:"cpus"`
	// Quota is the share of time the control group grants, in CPUs (1.5 = one
	// and a half); unknown when there is no limit or it cannot be read.
	Quota Reading[float64] `json:"quota"`
	// Threads is how many busy threads make sense: one for each usable CPU, but
	// no more than the quota feeds, rounded up, and at least 1.
	Threads int `json:"threads"`
}

// usable combines the affinity mask with the control group's quota. fallback
// counts the CPUs when there is no mask.
func usable(fsys fs.FS, mask Reading[[]int], fallback int) Usable {
	u := Usable{CPUs: mask, Quota: cgroupQuota(fsys), Threads: fallback}
	if cpus, ok := mask.Get(); ok {
		u.Threads = len(cpus)
	}
	if quota, ok := u.Quota.Get(); ok {
		u.Threads = min(u.Threads, int(math.Ceil(quota)))
	}
	u.Threads = max(u.Threads, 1)
	return u
}

const cgroupRoot = "sys/fs/cgroup"

// cgroupQuota returns the tightest CPU limit on the way from this process's
// control group up to the root, in version 2 (cpu.max) or version 1
// (cpu.cfs_quota_us). In a container the path that /proc names may lie outside
// what is mounted; missing files are passed over, the root is always looked at.
func cgroupQuota(fsys fs.FS) Reading[float64] {
	var tightest Reading[float64]
	for line := range strings.Lines(readText(fsys, "proc/self/cgroup").Or("")) {
		// hierarchy-ID:controllers:path, cgroups(7)
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		for _, mount := range cgroupMounts(fields[1]) {
			for dir := path.Clean("/" + fields[2]); ; dir = path.Dir(dir) {
				if q, ok := quotaIn(fsys, path.Join(mount, dir)).Get(); ok {
					tightest = Known(min(q, tightest.Or(q)))
				}
				if dir == "/" {
					break
				}
			}
		}
	}
	return tightest
}

// cgroupMounts returns where a hierarchy with the cpu controller is mounted by
// custom; no controllers means version 2.
func cgroupMounts(controllers string) []string {
	if controllers == "" {
		return []string{cgroupRoot, cgroupRoot + "/unified"}
	}
	for c := range strings.SplitSeq(controllers, ",") {
		if c == "cpu" {
			return []string{cgroupRoot + "/" + controllers, cgroupRoot + "/cpu"}
		}
	}
	return nil
}

// quotaIn reads the limit of one control group.
func quotaIn(fsys fs.FS, dir string) Reading[float64] {
	if limit, period, ok := strings.Cut(readText(fsys, dir+"/cpu.max").Or(""), " "); ok {
		return ratio(limit, period) // "max 100000": no limit
	}
	return ratio(readText(fsys, dir+"/cpu.cfs_quota_us").Or(""), readText(fsys, dir+"/cpu.cfs_period_us").Or(""))
}

func ratio(limit, period string) Reading[float64] {
	l, err1 := strconv.ParseInt(limit, 10, 64)
	p, err2 := strconv.ParseInt(period, 10, 64)
	if err1 != nil || err2 != nil || l <= 0 || p <= 0 { // −1: no limit
		return Reading[float64]{}
	}
	return Known(float64(l) / float64(p))
}
