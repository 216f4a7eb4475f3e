package agent

import "github.com/k2sandbox/k2sandbox/files"

// Files returns the sandbox's file system, which is closed with it.
func (s *Sandbox) Files() *files.Root { return s.files }

// maxRootFiles is how many of FilesAsRoot go on at once: each has a thread, of which Go has to get all that it wants.
const maxRootFiles = 32

// FilesAsRoot has what f does with Files done as root, but for watches, which outlive it. ErrNoRoot where there is none.
func (s *Sandbox) FilesAsRoot(f func() error) error {
	if s.o.RootFiles == nil {
		return ErrNoRoot
	}
	s.asRoot <- struct{}{}
	defer func() { <-s.asRoot }()
	t, err := s.o.RootFiles()
	if err != nil {
		return err
	}
	defer t.Close()
	return t.Do(f)
}
