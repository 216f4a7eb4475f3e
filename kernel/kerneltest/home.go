package kerneltest

import "os"

// Home gives this process, and all that it starts, an empty home folder, until done is called. In the user's own, shells and
// bash_kernel run what its ~/.bashrc says, which may wait for another shell, also one that a test has killed. It is for a TestMain.
func Home() (done func()) {
	dir, err := os.MkdirTemp("", "home-")
	if err != nil {
		panic(err)
	}
	before := os.Getenv("HOME")
	os.Setenv("HOME", dir)
	return func() {
		os.Setenv("HOME", before)
		os.RemoveAll(dir)
	}
}
