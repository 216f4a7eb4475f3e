package kernel

// BashSpec is bash_kernel in the given Python interpreter.
func BashSpec(interpreter string) Spec {
	return Spec{
		Name:          "bash",
		Argv:          []string{interpreter, "-m", "bash_kernel", "-f", "{connection_file}"},
		DisplayName:   "Bash",
		Language:      "bash",
		InterruptMode: "signal",
		Env:           map[string]string{"PS1": "$"}, // which it waits for
	}
}

// DenoSpec is the kernel of TypeScript and JavaScript that the given Deno has.
func DenoSpec(program string) Spec {
	return Spec{
		Name:          "deno",
		Argv:          []string{program, "jupyter", "--kernel", "--conn", "{connection_file}"},
		DisplayName:   "Deno",
		Language:      "typescript",
		InterruptMode: "message", // a signal ends it
		Env:           map[string]string{"NO_COLOR": "1"},
		Transport:     "tcp",
	}
}
