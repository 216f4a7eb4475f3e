package notebook

import (
	"cmp"
	"fmt"
)

// budget bounds the bytes of outputs that a notebook holds while it runs.
type budget struct{ left, all int64 }

// outputSize is what an output costs beside its content, in bytes.
const outputSize = 256

// newBudget returns a budget of n bytes, where 0 stands for 64 MiB.
func newBudget(n int64) *budget {
	n = cmp.Or(n, 64<<20)
	return &budget{left: n, all: n}
}

// take takes n bytes, and reports whether they were there.
func (b *budget) take(n int64) bool {
	if n > b.left {
		return false
	}
	b.left -= n
	return true
}

func (b *budget) refusal() string {
	return fmt.Sprintf("\n[left out: the outputs of this notebook are longer than %d bytes]\n", b.all)
}
