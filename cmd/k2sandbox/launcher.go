package main

import (
	"errors"

	"github.com/k2sandbox/k2sandbox/kernel"
)

// launcher is the flag that says which way messages take in Python's kernels.
type launcher string

const (
	fastLauncher  = "fast"
	stockLauncher = "stock"
)

func (l *launcher) String() string { return string(*l) }
func (l *launcher) Type() string   { return "string" }

func (l *launcher) Set(s string) error {
	if s != fastLauncher && s != stockLauncher {
		return errors.New("want fast or stock")
	}
	*l = launcher(s)
	return nil
}

// spec returns the kernel of an interpreter.
func (l launcher) spec(interpreter string) kernel.Spec {
	s := kernel.PythonSpec(interpreter)
	if l == stockLauncher {
		s = s.Stock()
	}
	return s
}
