package sha256d

import (
	"fmt"
	"testing"
	"time"

	"qcitycoin.org/qcity/hw"
)

// BenchmarkKernels measures all kernels that run here in turn, b.N times 100 ms
// each, on whatever thread it is given: `qcity bench` does it properly.
func BenchmarkKernels(b *testing.B) {
	var kernels []Kernel
	for _, k := range Kernels() {
		if len(k.Missing(hw.Features())) == 0 {
			kernels = append(kernels, k)
		}
	}
	results, err := Bench(b.Context(), time.Duration(b.N)*100*time.Millisecond, kernels...)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(0, "ns/op")
	for _, r := range results {
		b.ReportMetric(r.Median()/1e6, r.Name+"-MH/s")
		if testing.Verbose() {
			fmt.Printf("%-24s %7.2f MH/s  %7.2f … %7.2f\n", r.Name, r.Median()/1e6, r.P10()/1e6, r.P90()/1e6)
		}
	}
}
