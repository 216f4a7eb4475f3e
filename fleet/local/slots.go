package local

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
)

// slots gives ranges of user ids away, each to one sandbox at a time. A file with the
// slot's number as its name, which holds its owner's name, marks one that is taken.
type slots struct{ dir string }

const (
	firstID = 0x70000000 // of the first slot: no system gives such ids to users
	maxSlot = 1 << 12    // slots
	noSlot  = -1
)

// base returns the first id of a slot's range.
func (s slots) base(slot int) int { return firstID + slot*idsPerSandbox }

// take begins at a random slot, so that servers that do not know of each other hardly meet.
func (s slots) take(owner string) (int, error) {
	start := rand.IntN(maxSlot)
	for i := range maxSlot {
		slot := (start + i) % maxSlot
		f, err := os.OpenFile(s.path(slot), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("cannot take a range of user ids: %w", err)
		}
		_, err = f.WriteString(owner)
		if err = errors.Join(err, f.Close()); err != nil {
			os.Remove(f.Name())
			return 0, fmt.Errorf("cannot take a range of user ids: %w", err)
		}
		return slot, nil
	}
	return 0, errors.New("cannot take a range of user ids: all are taken")
}

// release gives a slot back, if it is the owner's.
func (s slots) release(slot int, owner string) {
	if text, err := os.ReadFile(s.path(slot)); err == nil && string(text) == owner {
		os.Remove(s.path(slot))
	}
}

// sweep gives back what belongs to others than those named.
func (s slots) sweep(names map[string]bool) {
	entries, _ := os.ReadDir(s.dir)
	for _, e := range entries {
		owner, err := os.ReadFile(filepath.Join(s.dir, e.Name()))
		if slot, bad := strconv.Atoi(e.Name()); err == nil && bad == nil && !names[string(owner)] {
			s.release(slot, string(owner))
		}
	}
}

func (s slots) path(slot int) string { return filepath.Join(s.dir, strconv.Itoa(slot)) }
