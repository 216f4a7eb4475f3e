package files

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// maxAttributes is how many bytes of names and values are read of one file.
const maxAttributes = 4 << 10

// Attributes returns the extended attributes (xattr(7)) of what a path leads to whose names
// have the prefix, such as "user.", by the rest of their names. What is not UTF-8 is left
// out, and so is what goes beyond 4 KiB; where the file system has none there are none.
func (r *Root) Attributes(path, prefix string) (map[string]string, error) {
	p, err := r.target(path, nil)
	if err != nil {
		return nil, failure("read the attributes of", path, err)
	}
	defer p.close()
	all, err := attributes(fmt.Sprintf("/proc/self/fd/%d/%s", p.fd(), p.base), prefix)
	return all, failure("read the attributes of", path, err)
}

// attributes reads those of a file, never of what a link leads to.
func attributes(file, prefix string) (map[string]string, error) {
	var buf [64 << 10]byte // XATTR_LIST_MAX
	n, err := unix.Llistxattr(file, buf[:])
	if errors.Is(err, unix.ENOTSUP) || n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all map[string]string
	left := maxAttributes
	var value [maxAttributes]byte
	for name := range strings.SplitSeq(string(buf[:n]), "\x00") {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok || rest == "" || !utf8.ValidString(rest) {
			continue
		}
		n, err := unix.Lgetxattr(file, name, value[:])
		if left -= len(name) + n; err != nil || left < 0 || !utf8.Valid(value[:n]) {
			continue // it is gone, too long or no text
		}
		if all == nil {
			all = map[string]string{}
		}
		all[rest] = string(value[:n])
	}
	return all, nil
}

// mark gives the draft those of the attributes that its file system keeps.
func (d *draft) mark(given map[string]string) error {
	for name, value := range given {
		err := unix.Fsetxattr(d.fd(), name, []byte(value), 0)
		switch {
		case err == nil || errors.Is(err, unix.ENOTSUP):
		case errors.Is(err, unix.ENOSPC) && d.hasRoom() || errors.Is(err, unix.E2BIG) || errors.Is(err, unix.ERANGE):
			return ErrMarks // ext4 has a block for them, with what it writes itself there
		default:
			return err
		}
	}
	return nil
}

// hasRoom reports whether the draft's file system has some left.
func (d *draft) hasRoom() bool {
	var fs unix.Statfs_t
	return unix.Fstatfs(d.fd(), &fs) == nil && fs.Bavail > 0
}
