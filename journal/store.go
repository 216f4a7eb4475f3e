package journal

import "os"

// TempStore makes a place on disk for a long log: a file without a name, which goes
// when it is closed or when the process ends, however it ends.
func TempStore() (Store, error) {
	f, err := os.CreateTemp("", "k2-events-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
