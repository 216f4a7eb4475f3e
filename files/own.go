package files

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Linux lets a program look into itself whatever else keeps others from that. So what /proc tells of this one, by whichever of its
// threads, is not opened for those who could not open it themselves.

// everybodys is what /proc tells everybody of a program.
var everybodys = map[string]bool{
	"status": true, "stat": true, "statm": true, "cmdline": true, "cgroup": true, "limits": true, "mounts": true, "mountinfo": true,
}

// own reports whether a name in an open directory, or what is open where that is "", is of this program alone.
func own(fd int, name string) bool {
	var fs unix.Statfs_t
	if unix.Fstatfs(fd, &fs) != nil || fs.Type != unix.PROC_SUPER_MAGIC {
		return false
	}
	path, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	rest, ok := strings.CutPrefix(path, "/proc/")
	if err != nil || !ok {
		return err != nil || name != "" && path != "/proc" // nobody can tell
	}
	number, rest, _ := strings.Cut(rest, "/")
	if _, err := strconv.Atoi(number); err != nil {
		return false
	}
	if _, err := os.Lstat("/proc/self/task/" + number); err != nil {
		return false
	}
	if name != "" {
		rest = strings.TrimPrefix(rest+"/"+name, "/")
	}
	return !everybodys[rest]
}
