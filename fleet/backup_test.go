package fleet_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/k2sandbox/k2sandbox/fleet"
)

// What is copied while sandboxes come and go is whole, and a fleet has from it what there was.
func TestBackup(t *testing.T) {
	h, dir := newHost(t), t.TempDir()
	f := open(t, h, fleet.Options{Dir: dir})
	info, _ := create(t, f, h, fleet.CreateOptions{Metadata: map[string]string{"user": "ada"}})
	ended, _ := create(t, f, h, fleet.CreateOptions{})
	if err := f.Kill(t.Context(), ended.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := fleet.Backup(dir, io.Discard); !errors.Is(err, fleet.ErrInUse) {
		t.Errorf("of one in use: %v", err)
	}
	var copied bytes.Buffer
	n, err := f.Backup(&copied)
	if err != nil || n != int64(copied.Len()) || n == 0 {
		t.Fatalf("%d of %d bytes, %v", n, copied.Len(), err)
	}
	token := f.AccessToken(info.ID)
	create(t, f, h, fleet.CreateOptions{})
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Backup(io.Discard); !errors.Is(err, fleet.ErrClosed) {
		t.Errorf("of one that is closed: %v", err)
	}
	var again bytes.Buffer
	if n, err := fleet.Backup(dir, &again); err != nil || n == 0 {
		t.Errorf("of one that is not open: %d, %v", n, err)
	}
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "registry.db"), copied.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	restored := open(t, h, fleet.Options{Dir: other})
	got, err := restored.Get(info.ID)
	if err != nil || got.Metadata["user"] != "ada" || restored.AccessToken(info.ID) != token {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := restored.Get(ended.ID); !errors.Is(err, fleet.ErrGone) {
		t.Errorf("of the one that had ended: %v", err)
	}
	if _, err := fleet.Backup(t.TempDir(), io.Discard); err == nil {
		t.Error("of nothing")
	}
}
