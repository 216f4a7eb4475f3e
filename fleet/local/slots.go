package local

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

// slots gives ranges of user ids away, each to one sandbox at a time. A file with the
// slot's number as its name, which holds its owner's name, marks one that is taken.
type slots struct {
	dir string

	claims sync.Mutex // held while one is given away: its file has no owner at first

	mu     sync.Mutex
	recent []int // given back by sandboxes that shared nothing with the host
}

const (
	firstID = 0x70000000 // of the first slot: no system gives such ids to users
	maxSlot = 1 << 12    // slots
	noSlot  = -1

	maxRecent = 64
)

// base returns the first id of a slot's range.
func (s *slots) base(slot int) int { return firstID + slot*idsPerSandbox }

// take begins at a random slot, so that servers that do not know of each other hardly meet. again takes one of those that
// were given back last, if there is one, for which much is there already.
func (s *slots) take(owner string, again bool) (int, error) {
	for again {
		slot, ok := s.last()
		if !ok {
			break
		}
		if err := s.claim(slot, owner); !errors.Is(err, os.ErrExist) {
			return slot, err
		}
	}
	start := rand.IntN(maxSlot)
	for i := range maxSlot {
		slot := (start + i) % maxSlot
		if err := s.claim(slot, owner); !errors.Is(err, os.ErrExist) {
			return slot, err
		}
	}
	return 0, errors.New("cannot take a range of user ids: all are taken")
}

// claim gives one slot away; os.ErrExist where it is taken.
func (s *slots) claim(slot int, owner string) error {
	s.claims.Lock()
	defer s.claims.Unlock()
	f, err := os.OpenFile(s.path(slot), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("cannot take a range of user ids: %w", err)
	}
	_, err = f.WriteString(owner)
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("cannot take a range of user ids: %w", err)
	}
	return nil
}

// last returns one of those that were given back last.
func (s *slots) last() (slot int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.recent); n > 0 {
		slot, s.recent, ok = s.recent[n-1], s.recent[:n-1], true
	}
	return slot, ok
}

// releaseSoon gives a slot back to be taken soon. Where enough are there it does nothing, and reports false.
func (s *slots) releaseSoon(slot int, owner string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.recent) >= maxRecent {
		return false
	}
	s.release(slot, owner)
	s.recent = append(s.recent, slot)
	return true
}

// release gives a slot back, if it is the owner's.
func (s *slots) release(slot int, owner string) {
	if s.owned(slot, owner) {
		os.Remove(s.path(slot))
	}
}

// owned reports whether a slot is that owner's.
func (s *slots) owned(slot int, owner string) bool {
	text, err := os.ReadFile(s.path(slot))
	return err == nil && string(text) == owner
}

// sweep gives back what belongs to others than those named.
func (s *slots) sweep(names map[string]bool) {
	s.claims.Lock()
	defer s.claims.Unlock()
	entries, _ := os.ReadDir(s.dir)
	for _, e := range entries {
		owner, err := os.ReadFile(filepath.Join(s.dir, e.Name()))
		if slot, bad := strconv.Atoi(e.Name()); err == nil && bad == nil && !names[string(owner)] {
			s.release(slot, string(owner))
		}
	}
}

func (s *slots) path(slot int) string { return filepath.Join(s.dir, strconv.Itoa(slot)) }
