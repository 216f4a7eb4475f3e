package local_test

import (
	"os"
	"path/filepath"
	"regexp"
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

// Nothing that crashes inside starts a program of the host's, as kernel.core_pattern may name one: of all limits, 1 alone
// forbids it.
func TestCrashesStartNothingOnTheHost(t *testing.T) {
	m := start(t, open(t), fleet.Spec{ID: "sb_core"})
	const ask = "prlimit --core --raw --noheadings --output SOFT,HARD"
	wants(t, m, ask, "1 1")
	wants(t, m, "ulimit -c 0 && "+ask, "1 1")
}

// Whoever takes over an agent has no new user namespace by that, were there no filter of system calls.
func TestNoUserNamespacesInside(t *testing.T) {
	m := start(t, open(t), fleet.Spec{ID: "sb_spaces"})
	wants(t, m, "cat /proc/sys/user/max_user_namespaces", "0")
}

// Whoever takes over an agent has by a program that it starts nothing: it is not root.
func TestAgentsProgramsHaveNoCapabilities(t *testing.T) {
	m := start(t, open(t), fleet.Spec{ID: "sb_own"})
	var o outcome
	ask(t, m, "/own", nil, &o)
	const want = "0000000000000000"
	if got := regexp.MustCompile(`CapPrm:\t(.*)`).FindStringSubmatch(o.Out); len(got) != 2 || got[1] != want {
		t.Errorf("%q, want %s in\n%s", got, want, o.Out)
	}
	wants(t, m, "grep -h NoNewPrivs /proc/1/task/*/status | sort -u", "NoNewPrivs:\t1")
	wants(t, m, "grep -hw Seccomp /proc/1/task/*/status | sort -u", "Seccomp:\t2")
}

// Whoever takes over an agent becomes nobody whom the host's root belongs to, and reaches no more of Linux than code.
func TestTakenOverAgents(t *testing.T) {
	m := start(t, open(t), fleet.Spec{ID: "sb_taken"})
	var got map[string]string
	ask(t, m, "/takeover", nil, &got)
	if len(got) < 15 {
		t.Errorf("it tried %v", got)
	}
	for what, came := range got {
		if came != "operation not permitted" {
			t.Errorf("%s: %s", what, came)
		}
	}
}
