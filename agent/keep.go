package agent

import "slices"

// Keep bounds what is kept of runs that have ended, of cells and, apart, of notebooks.
// Past any of the bounds the oldest are forgotten. The zero value of a field stands
// for its default.
type Keep struct {
	Runs   int   // 1000
	Memory int64 // bytes of their events in memory: 64 MiB
	Disk   int64 // bytes of their events on disk: 4 GiB
}

func (k *Keep) setDefaults() {
	if k.Runs == 0 {
		k.Runs = 1000
	}
	if k.Memory == 0 {
		k.Memory = 64 << 20
	}
	if k.Disk == 0 {
		k.Disk = 4 << 30
	}
}

// passing is something that runs, ends, and is kept for a while.
type passing interface {
	Done() <-chan struct{}
	Size() (memory, stored int64) // bytes
	Evict()                       // gives up what is kept
}

// prune evicts those that are over the bounds, the newest being kept first, and
// returns the others. The newest that has ended is always kept. order has the oldest first.
func prune[T passing](order []T, keep Keep, forget func(T)) []T {
	var kept []T
	newest := true
	for _, one := range slices.Backward(order) {
		if closed(one.Done()) {
			memory, stored := one.Size()
			keep.Runs--
			keep.Memory -= memory
			keep.Disk -= stored
			if over := keep.Runs < 0 || keep.Memory < 0 || keep.Disk < 0; over && !newest {
				one.Evict()
				forget(one)
				continue
			}
			newest = false
		}
		kept = append(kept, one)
	}
	slices.Reverse(kept)
	return kept
}
