package fleet

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
)

// ListOptions say what to list.
type ListOptions struct {
	State    State             // "" is all but the ended
	Metadata map[string]string // that a sandbox has, maybe among other
	Owner    string            // "" is all owners'
	Limit    int               // of a page, 1 to MaxPage; 0 is MaxPage
	Cursor   string            // Page.Next of the page before; "" is the beginning
}

// MaxPage is how many sandboxes are on a page at most.
const MaxPage = 1000

// maxLook is how many records of ended sandboxes one page looks at.
const maxLook = 10_000

// Page is a part of a list. It may be empty and yet have a Next.
type Page struct {
	Sandboxes []Info
	Next      string // "" on the last page
}

// List lists sandboxes, those first that were created last; the ended, which come only
// where they are asked for, by when they ended. A sandbox that is there all the time is
// on one page exactly, whatever comes and goes between the calls. Errors are a *api.Error
// for options that make no sense, and ErrClosed.
func (f *Fleet) List(o ListOptions) (Page, error) {
	if o.State != "" && !slices.Contains(States, o.State) {
		return Page{}, api.Invalid("state", "%.64q is none of %v", o.State, States)
	}
	if o.Limit < 0 || o.Limit > MaxPage {
		return Page{}, api.Invalid("limit", "is not from 1 to %d", MaxPage)
	}
	o.Limit = cmp.Or(o.Limit, MaxPage)
	before, err := parsePlace(o.Cursor)
	if err != nil {
		return Page{}, err
	}
	if o.State == Ended {
		return f.listEnded(o, before)
	}
	return f.listLive(o, before)
}

func (f *Fleet) listLive(o ListOptions, before place) (Page, error) {
	var found []Info
	f.mu.Lock()
	for _, s := range f.sandboxes {
		if o.wants(s.state, s.record) && (before.at.IsZero() || s.record.created().compare(before) < 0) {
			found = append(found, s.info())
		}
	}
	closed := f.closed
	f.mu.Unlock()
	if closed {
		return Page{}, ErrClosed
	}
	slices.SortFunc(found, func(a, b Info) int { return place{b.CreatedAt, b.ID}.compare(place{a.CreatedAt, a.ID}) })
	if len(found) <= o.Limit {
		return Page{Sandboxes: found}, nil
	}
	last := found[o.Limit-1]
	return Page{found[:o.Limit], place{last.CreatedAt, last.ID}.String()}, nil
}

func (f *Fleet) listEnded(o ListOptions, before place) (Page, error) {
	var page Page
	looked, last := 0, place{}
	err := f.registry.newest(before, func(rec record) bool {
		if len(page.Sandboxes) == o.Limit || looked == maxLook {
			page.Next = last.String()
			return false
		}
		if o.wants(Ended, rec) {
			page.Sandboxes = append(page.Sandboxes, rec.info())
		}
		looked, last = looked+1, place{rec.EndedAt, rec.ID}
		return true
	})
	return page, err
}

func (o ListOptions) wants(state State, rec record) bool {
	if o.State != "" && o.State != state || o.Owner != "" && o.Owner != rec.Owner {
		return false
	}
	for key, value := range o.Metadata {
		if has, ok := rec.Metadata[key]; !ok || has != value {
			return false
		}
	}
	return true
}

// place is where a sandbox is in a list. Nothing else ever has the same.
type place struct {
	at time.Time
	id string
}

func (r record) created() place { return place{r.CreatedAt, r.ID} }

func (p place) compare(q place) int {
	return cmp.Or(p.at.Compare(q.at), strings.Compare(p.id, q.id))
}

func (p place) String() string { return base64.RawURLEncoding.EncodeToString(endKey(p.at, p.id)) }

func parsePlace(cursor string) (place, error) {
	if cursor == "" {
		return place{}, nil
	}
	key, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || len(key) <= 8 || len(key) > 64 {
		return place{}, api.Invalid("cursor", "is not one of this server's")
	}
	return place{time.Unix(0, int64(binary.BigEndian.Uint64(key))).UTC(), string(key[8:])}, nil
}
