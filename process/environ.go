package process

import (
	"slices"
	"strings"
)

// Variable returns the value of a variable in an environment, "NAME=value" each, of which the
// last counts; "" where there is none.
func Variable(env []string, name string) string {
	for _, v := range slices.Backward(env) {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

// distinct returns the environment with the last value of each variable.
func distinct(env []string) []string {
	seen, last := map[string]bool{}, []string{}
	for _, v := range slices.Backward(env) {
		name, _, _ := strings.Cut(v, "=")
		if !seen[name] {
			seen[name] = true
			last = append(last, v)
		}
	}
	slices.Reverse(last)
	return last
}
