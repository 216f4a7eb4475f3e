// Package lazy makes when it is first needed what programs mostly do without: each sandbox starts one.
package lazy

import (
	"regexp"
	"sync"
)

// Regexp returns what compiles an expression once, when it is first called. It panics then where the expression is none.
func Regexp(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}
