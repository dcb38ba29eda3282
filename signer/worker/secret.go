package worker

import (
	"log/slog"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Secret keeps a PIN for a long time: on pages of its own, outside of Go's heap,
// which are locked into memory and left out of core dumps, and cleared by Wipe.
type Secret struct {
	page []byte // mapped; nil after Wipe
	n    int
}

// lockRefused sees to it that a refusal to lock memory is logged once.
var lockRefused sync.Once

// KeepSecret copies b, which stays the caller's to clear. What the system does
// not allow is logged, once, and done without.
func KeepSecret(b []byte, log *slog.Logger) *Secret {
	size := max(1, (len(b)+os.Getpagesize()-1)/os.Getpagesize()) * os.Getpagesize()
	page, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		// No memory is left for a page. The heap is worse than nothing but for that.
		log.Warn("a PIN is kept in ordinary memory", "err", err)
		return &Secret{page: append(make([]byte, 0, len(b)), b...), n: len(b)}
	}
	if err := unix.Mlock(page); err != nil {
		lockRefused.Do(func() {
			log.Warn("PINs cannot be locked into memory and may reach the swap: raise the limit (systemd: LimitMEMLOCK=1M) or use no swap", "err", err)
		})
	}
	_ = unix.Madvise(page, unix.MADV_DONTDUMP) // dumps are forbidden besides
	_ = unix.Madvise(page, unix.MADV_DONTFORK) // a child has no use for it
	copy(page, b)
	return &Secret{page: page, n: len(b)}
}

// Bytes returns the secret itself, no copy; nil after Wipe.
func (s *Secret) Bytes() []byte {
	if s == nil || s.page == nil {
		return nil
	}
	return s.page[:s.n:s.n]
}

// Wipe clears the secret and gives its memory back. More than once does nothing.
func (s *Secret) Wipe() {
	if s == nil || s.page == nil {
		return
	}
	clear(s.page)
	_ = unix.Munmap(s.page) // fails for the heap's, which the collector takes back
	s.page = nil
}
