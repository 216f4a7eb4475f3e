package files

import "golang.org/x/sys/unix"

// NameDrafts has drafts have names, as on file systems without O_TMPFILE.
func (r *Root) NameDrafts() { r.noTmpfile = true }

// SetCalm sets what a watch does between two looks at the kernel's events.
func (r *Root) SetCalm(calm func()) { r.calm = calm }

// Resemble gives a file the attributes of another, as a copy does.
func Resemble(dir int, name string, st *unix.Stat_t) error { return resemble(dir, name, st) }
