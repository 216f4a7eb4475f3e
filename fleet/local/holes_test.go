package local_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/fleet/local"
)

// What is a user's alone on the host stays so for the user inside, who has the same number there.
func TestHostUsersFilesAreNotTheUsersInside(t *testing.T) {
	if os.Getuid() != 0 {
		return // has no such files
	}
	dir := t.TempDir()
	for parent := dir; parent != os.TempDir() && parent != "/"; parent = filepath.Dir(parent) {
		if err := os.Chmod(parent, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("of user 1000"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(secret, 1000, 1000); err != nil {
		t.Fatal(err)
	}
	r := open(t, func(o *local.Options) { o.Environ = append(o.Environ, "PIP_FIND_LINKS="+dir) })
	m := start(t, r, fleet.Spec{ID: "sb_owners"})
	wants(t, m, "cat "+secret+" 2>&1", "cat: "+secret+": Permission denied")
	wants(t, m, "stat -c '%u %g' "+secret, "65534 65534")
	wants(t, m, "stat -c '%u %g' "+dir, "0 0")
}
