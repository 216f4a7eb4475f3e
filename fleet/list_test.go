package fleet_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
)

func ids(page fleet.Page) []string {
	found := []string{}
	for _, info := range page.Sandboxes {
		found = append(found, info.ID)
	}
	return found
}

func TestList(t *testing.T) {
	h := newHost(t)
	f := open(t, h, fleet.Options{})
	var all []string // newest first
	for i := range 6 {
		info, _ := create(t, f, h, fleet.CreateOptions{Metadata: map[string]string{"n": fmt.Sprint(i), "half": fmt.Sprint(i / 3)}, Owner: fmt.Sprint("key", i%2)})
		all = append([]string{info.ID}, all...)
	}
	if _, err := f.Pause(t.Context(), all[2]); err != nil {
		t.Fatal(err)
	}
	if err := f.Kill(t.Context(), all[5]); err != nil {
		t.Fatal(err)
	}
	if err := f.Kill(t.Context(), all[4]); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		o    fleet.ListOptions
		want []string
	}{
		{fleet.ListOptions{}, all[:4]},
		{fleet.ListOptions{State: fleet.Running}, []string{all[0], all[1], all[3]}},
		{fleet.ListOptions{State: fleet.Paused}, all[2:3]},
		{fleet.ListOptions{State: fleet.Creating}, []string{}},
		{fleet.ListOptions{State: fleet.Ended}, []string{all[4], all[5]}},
		{fleet.ListOptions{State: fleet.Ended, Limit: 1}, []string{all[4]}},
		{fleet.ListOptions{State: fleet.Ended, Owner: "key0"}, []string{all[5]}},
		{fleet.ListOptions{Metadata: map[string]string{"half": "1"}}, all[:3]},
		{fleet.ListOptions{Metadata: map[string]string{"half": "1", "n": "4"}}, all[1:2]},
		{fleet.ListOptions{Metadata: map[string]string{"half": "1", "no": ""}}, []string{}},
		{fleet.ListOptions{Owner: "key1"}, []string{all[0], all[2]}},
	} {
		page, err := f.List(c.o)
		if err != nil || !slices.Equal(ids(page), c.want) {
			t.Errorf("%+v: %v, %v; want %v", c.o, ids(page), err, c.want)
		}
	}
	for field, o := range map[string]fleet.ListOptions{
		"state": {State: "sleeping"}, "limit": {Limit: 1001}, "cursor": {Cursor: "%"},
	} {
		_, err := f.List(o)
		var told *api.Error
		if !errors.As(err, &told) || told.Details["field"] != field {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// Pages neither repeat nor lose a sandbox that is there all the time.
func TestPagesAreStable(t *testing.T) {
	for _, state := range []fleet.State{fleet.Running, fleet.Ended} {
		h := newHost(t)
		f := open(t, h, fleet.Options{})
		var all []string
		for range 7 {
			info, _ := create(t, f, h, fleet.CreateOptions{})
			all = append([]string{info.ID}, all...)
		}
		if state == fleet.Ended {
			for _, id := range slices.Backward(all) {
				if err := f.Kill(t.Context(), id); err != nil {
					t.Fatal(err)
				}
			}
		}
		var seen []string
		o := fleet.ListOptions{State: state, Limit: 2}
		for {
			page, err := f.List(o)
			if err != nil {
				t.Fatal(err)
			}
			seen = append(seen, ids(page)...)
			if page.Next == "" {
				break
			}
			o.Cursor = page.Next
			// One comes, and where they run the last one seen goes.
			info, _ := create(t, f, h, fleet.CreateOptions{})
			if state == fleet.Ended {
				info.ID = seen[len(seen)-1]
				if err := f.Kill(t.Context(), info.ID); !errors.Is(err, fleet.ErrGone) {
					t.Fatal(err)
				}
				continue
			}
			if err := f.Kill(t.Context(), seen[len(seen)-1]); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(seen, all) {
			t.Errorf("%s: the pages have %v, want %v", state, seen, all)
		}
	}
}
