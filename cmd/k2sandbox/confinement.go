package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/k2sandbox/k2sandbox/fleet/local"
)

// checkConfinement starts sandboxes, the strongest first, until one works, and tells what
// holds for it and what does not.
func checkConfinement(ctx context.Context) []finding {
	const what = "confinement"
	dir, err := os.MkdirTemp("", "k2sandbox-doctor-")
	if err != nil {
		return []finding{{warn, what, err.Error(), ""}}
	}
	defer os.RemoveAll(dir)
	r, err := local.New(ctx, local.Options{Dir: dir})
	if err != nil {
		return []finding{{warn, what, oneLine(err), "k2sandbox serve does not start here, but with --isolation none, which confines nothing"}}
	}
	told := r.Isolation()
	if err := errors.Join(r.Sweep(func(string) bool { return false }), r.Close()); err != nil {
		return []finding{{warn, what, oneLine(err), ""}}
	}
	var limits []string
	for _, limit := range slices.Sorted(maps.Keys(told.Enforced)) {
		limits = append(limits, fmt.Sprintf("%s by %s", limit, told.Enforced[limit]))
	}
	found := []finding{{ok, what, "level " + told.Level, ""}, {ok, "limits", strings.Join(limits, ", "), ""}}
	for _, gap := range slices.Sorted(maps.Keys(told.Missing)) {
		found = append(found, finding{warn, "no " + gap, told.Missing[gap], ""})
	}
	return found
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
