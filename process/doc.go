// Package process runs operating system processes that can be ended for good:
// each leads its own session and process group, its output goes where the
// caller says without ever holding up its end, and a Guard sees to it that
// nothing of it is left, not even when this program is killed by SIGKILL.
//
// What this level cannot reach: a descendant that left the process group
// (setsid) and also hid the mark of its Guard (cleared or overwrote its
// environment), or that runs under a user whose environment this program may
// not read. Confinement (a PID namespace or a cgroup) is what catches those.
// The package is for Linux.
package process
