package files

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Linux lets a program look into itself whatever else keeps others from that. So what /proc tells of this one, by whichever of its
// threads, is not opened for those who could not open it themselves.

// refuseOwn closes what is below this program's own directories in /proc.
func refuseOwn(f *os.File) (*os.File, error) {
	if !own(int(f.Fd())) {
		return f, nil
	}
	f.Close()
	return nil, unix.EACCES
}

func own(fd int) bool {
	var fs unix.Statfs_t
	if unix.Fstatfs(fd, &fs) != nil || fs.Type != unix.PROC_SUPER_MAGIC {
		return false
	}
	path, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	number, _, _ := strings.Cut(strings.TrimPrefix(path, "/proc/"), "/")
	if _, bad := strconv.Atoi(number); bad != nil {
		return err != nil // it is nobody's
	}
	_, err = os.Lstat("/proc/self/task/" + number)
	return err == nil
}
