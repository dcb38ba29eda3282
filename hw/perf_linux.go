package hw

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// perfCounter is the hardware's cycle counter of one thread.
type perfCounter struct{ fd int }

// openPerf counts the calling thread's cycles in user mode, which needs no
// rights as long as /proc/sys/kernel/perf_event_paranoid is 2 or less.
func openPerf() (*perfCounter, error) {
	attr := unix.PerfEventAttr{
		Type:        unix.PERF_TYPE_HARDWARE,
		Size:        uint32(unsafe.Sizeof(unix.PerfEventAttr{})),
		Config:      unix.PERF_COUNT_HW_CPU_CYCLES,
		Read_format: unix.PERF_FORMAT_TOTAL_TIME_ENABLED | unix.PERF_FORMAT_TOTAL_TIME_RUNNING,
		Bits:        unix.PerfBitExcludeKernel | unix.PerfBitExcludeHv,
	}
	fd, err := unix.PerfEventOpen(&attr, 0, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open cycle counter: %w", err)
	}
	return &perfCounter{fd}, nil
}

func (p *perfCounter) read() (perfReading, error) {
	var b [24]byte // the layout is that of Read_format
	n, err := unix.Read(p.fd, b[:])
	if err != nil {
		return perfReading{}, fmt.Errorf("read cycle counter: %w", err)
	}
	if n != len(b) { // its event is in an error state
		return perfReading{}, fmt.Errorf("read cycle counter: %d bytes instead of %d", n, len(b))
	}
	at := func(i int) uint64 { return binary.NativeEndian.Uint64(b[i:]) }
	return perfReading{at(0), at(8), at(16)}, nil
}

func (p *perfCounter) close() { _ = unix.Close(p.fd) }
