// Package python holds what k2sandbox brings to Python: the launcher that starts
// an IPython kernel, and the environment that it runs in where the user has none.
package python

import _ "embed"

// Launcher is a program that starts ipykernel 6.29 or later for a supervisor:
//
//	python FILE -f CONNECTION_FILE [traitlets arguments]
//
// Its kernel loses no output when iopub is read slowly, and honours the run
// options of an execute_request (wire.RunOptions).
//
//go:embed launcher.py
var Launcher []byte
