package local_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/client"
	"github.com/k2sandbox/k2sandbox/executor"
)

// attack is code that a user could run in a sandbox, and what it has to come to.
type attack struct {
	name string
	code string // the body of a Python function; see prelude for what it can use
	want string // a regular expression that all of what it came to has to match
	at   level  // where it applies
}

// level is how a sandbox is confined, and who runs its server.
type level int

const (
	rootNamespace level = 1 << iota
	userNamespace
	rootLandlock
	userLandlock

	namespace = rootNamespace | userNamespace
	landlock  = rootLandlock | userLandlock
	everyone  = namespace | landlock
)

var levels = map[level]string{
	rootNamespace: "namespace, root", userNamespace: "namespace, user",
	rootLandlock: "landlock, root", userLandlock: "landlock, user",
}

// isolation is the level's name for the server.
func (l level) isolation() string {
	if l&namespace != 0 {
		return "namespace"
	}
	return "landlock"
}

// user is who runs the server.
func (l level) user() int {
	if l&(userNamespace|userLandlock) != 0 {
		return 61_777
	}
	return 0
}

// pids bound the processes of a sandbox; where it is by user id, those of all sandboxes and of the server.
func (l level) pids() string {
	if l == userLandlock {
		return "400"
	}
	return "100"
}

// Each attack runs inside a sandbox of a real server, as code of its user, and fails: at each
// level where it applies. A neighbour answers all the time.
func TestAttacks(t *testing.T) {
	t.Cleanup(func() { os.RemoveAll(filepath.Dir(binary(t))) })
	for l := rootNamespace; l <= userLandlock; l <<= 1 {
		t.Run(levels[l], func(t *testing.T) {
			t.Parallel() // as much of it is waiting
			h := newHost(t, l)
			box := h.create(t, api.SandboxRequest{})
			for noun, attacks := range map[string][]attack{
				"files": fileAttacks(h), "processes": processAttacks(h), "calls": callAttacks(),
				"network": networkAttacks(h), "privileges": privilegeAttacks(),
			} {
				t.Run(noun, func(t *testing.T) { box.withstand(t, l, attacks) })
			}
			t.Run("resources", h.explode)
			if l&(rootNamespace|rootLandlock) != 0 {
				t.Run("watches of others", h.watched)
			}
			t.Run("agent", h.overthrow)
			t.Run("file calls", h.mislead)
			t.Run("races", h.race)
			if l == rootNamespace {
				t.Run("as root inside", h.asRoot)
				t.Run("by root inside", h.administer)
			}
			t.Run("nothing came of it", h.unharmed)
		})
	}
}

// only is a pattern of what came of several attempts, none of which has succeeded.
func only(outcomes ...string) string {
	one := "(?:" + strings.Join(outcomes, "|") + ")"
	return one + "(?: " + one + ")*"
}

// box is a sandbox under attack.
type box struct {
	*client.Client
	server *client.Client
	id     string
}

// withstand runs the attacks of a level.
func (b *box) withstand(t *testing.T, l level, attacks []attack) {
	for _, a := range attacks {
		if a.at&l == 0 {
			continue
		}
		t.Run(a.name, func(t *testing.T) {
			got := b.attack(t, a.code)
			t.Logf("it came to %s", got)
			if !matches(a.want, got) {
				t.Errorf("want %s", a.want)
			}
		})
	}
}

// attack runs the body of a function and returns what it came to: "done" or what it returned, else
// the name of the error.
func (b *box) attack(t *testing.T, body string) string {
	t.Helper()
	return strings.TrimSpace(b.run(t, call(body)))
}

// call is code that calls a function with that body.
func call(body string) string {
	lines := "    " + strings.ReplaceAll(strings.TrimSpace(body), "\n", "\n    ")
	return "def attack():\n" + lines + "\nprint(came_to(attack))"
}

func matches(want, got string) bool { return regexp.MustCompile("^(?:" + want + ")$").MatchString(got) }

// run runs code that is to end well, and returns what it printed.
func (b *box) run(t *testing.T, code string) string {
	t.Helper()
	out, end := b.try(t, code, 0)
	if end.Status != executor.OK {
		t.Fatalf("%s: %+v\n%s", end.Status, end.Exit, out)
	}
	return out
}

// try runs code, for at most so many seconds if they are not 0, and returns what it printed and how it ended.
func (b *box) try(t *testing.T, code string, seconds float64) (out string, end executor.Event) {
	t.Helper()
	var said strings.Builder
	for e, err := range b.Run(t.Context(), api.RunRequest{Code: code, Timeout: seconds}) {
		if err != nil {
			t.Fatalf("%v\n%s", err, said.String())
		}
		switch e.Type {
		case executor.Stdout, executor.Stderr:
			said.WriteString(e.Text)
		case executor.Error:
			fmt.Fprintf(&said, "%s: %s\n%s", e.Name, e.Value, strings.Join(e.Traceback, "\n"))
		case executor.End:
			end = e
		}
	}
	return said.String(), end
}

// answers checks that the sandbox does what it is for.
func (b *box) answers(t *testing.T) {
	t.Helper()
	if got := b.run(t, "print(6 * 7)"); got != "42\n" {
		t.Errorf("6 * 7 is %q", got)
	}
}

// python returns the interpreter of the sandboxes.
func python(t *testing.T) string {
	t.Helper()
	path := os.Getenv("K2_TEST_PYTHON")
	if path == "" {
		t.Fatal("K2_TEST_PYTHON names no interpreter: make test sets it")
	}
	return path
}
