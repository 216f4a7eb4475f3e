package agent

import "github.com/k2sandbox/k2sandbox/files"

// Files returns the sandbox's file system, which is closed with it.
func (s *Sandbox) Files() *files.Root { return s.files }
