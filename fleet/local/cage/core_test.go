package cage_test

import (
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/fleet/local/cage"
)

// Who could set the limit of core dumps to 0 could have the host start the program of its kernel.core_pattern.
func TestLimitOfCoreDumpsStays(t *testing.T) {
	core, cpu := strconv.Itoa(unix.RLIMIT_CORE), strconv.Itoa(unix.RLIMIT_CPU)
	number := func(n int) string { return strconv.Itoa(n) }
	const high = "0x100000000" // of which the lower half is 0
	cases := []struct {
		name string
		args []string
		want string
	}{
		{"set", []string{"call", number(unix.SYS_PRLIMIT64), "0", core, "1"}, "ok"}, // not looked at: the address is none
		{"set, far away", []string{"call", number(unix.SYS_PRLIMIT64), "0", core, high}, "ok"},
		{"set and asked for", []string{"call", number(unix.SYS_PRLIMIT64), "0", core, "1", "1"}, unix.EPERM.Error()},
		{"set and asked for, far away", []string{"call", number(unix.SYS_PRLIMIT64), "0", core, "1", high}, unix.EPERM.Error()},
		{"asked for", []string{"call", number(unix.SYS_PRLIMIT64), "0", core, "0", "1"}, unix.EFAULT.Error()},
		{"set by the old call", []string{"call", number(unix.SYS_SETRLIMIT), core, "1"}, "ok"},
		{"another one", []string{"call", number(unix.SYS_PRLIMIT64), "0", cpu, "1"}, unix.EFAULT.Error()},
		{"another one by the old call", []string{"call", number(unix.SYS_SETRLIMIT), cpu, "1"}, unix.EFAULT.Error()},
	}
	var list [][]string
	for _, c := range cases {
		list = append(list, c.args)
	}
	for i, got := range try(t, cage.Rules{NoNewPrivs: true, Seccomp: true}, list...) {
		if got != cases[i].want {
			t.Errorf("%s: got %q, want %q", cases[i].name, got, cases[i].want)
		}
	}
}
