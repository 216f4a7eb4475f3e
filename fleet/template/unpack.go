package template

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// unpacker fills a directory with the entries of a layer's archive.
type unpacker struct {
	*beneath
	limits Limits // of which this layer may have what others of the image have left
	own    bool   // files get the owners that they are to have
	layer  Layer
	dirs   []directory
	names  int // bytes of theirs
}

// maxNames bounds the names of a layer's directories, which are kept in memory, in bytes.
const maxNames = 256 << 20

// directory is one that gets its mode and time when all is in it.
type directory struct {
	at   string
	mode uint32
	time time.Time
}

// nobody has what belongs to users beyond those that a sandbox has.
const nobody, lastID = 65534, 65535

// unpack fills an empty directory with the files of an archive, and returns what there is. It follows the image specification of the
// Open Container Initiative, "Layer": what an entry says of a place outside of the directory is refused, and of powers left out.
func unpack(ctx context.Context, archive io.Reader, dir string, l Limits) (Layer, error) {
	tree, err := openTree(dir)
	if err != nil {
		return Layer{}, err
	}
	defer tree.close()
	u := &unpacker{beneath: tree, limits: l, own: os.Geteuid() == 0}
	tree.made = u.count
	entries := tar.NewReader(archive)
	for {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return u.layer, u.finish()
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return Layer{}, fmt.Errorf("cannot read the archive: %w", err)
		}
		if err := u.entry(h, entries); err != nil {
			return Layer{}, fmt.Errorf("%.256q: %w", h.Name, err)
		}
	}
}

// count counts a file, before it is made.
func (u *unpacker) count() error {
	if u.layer.Files++; u.layer.Files > u.limits.Files {
		return fmt.Errorf("%w: the image has more files than %d", ErrRefused, u.limits.Files)
	}
	return nil
}

func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	at, err := steps(h.Name, u.limits.Depth)
	if err != nil {
		return err
	}
	if err := u.count(); err != nil {
		return err
	}
	if len(at) == 0 {
		if h.Typeflag != tar.TypeDir {
			return fmt.Errorf("%w: the layer's root is a directory", ErrRefused)
		}
		return nil // it is ours
	}
	if i := slices.IndexFunc(at, func(step string) bool { return strings.HasPrefix(step, whiteoutPrefix) }); i >= 0 {
		return u.whiteoutEntry(at, i)
	}
	return u.place(h, at, content)
}

// How names of an archive tell of what is not there any more.
const (
	whiteoutPrefix = ".wh."
	whiteoutMeta   = ".wh..wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// whiteoutEntry hides what lies below: i is the first step that says so.
func (u *unpacker) whiteoutEntry(at []string, i int) error {
	name, last := strings.TrimPrefix(at[i], whiteoutPrefix), i == len(at)-1
	switch {
	case at[i] == whiteoutOpaque && last:
		if i == 0 {
			return fmt.Errorf("%w: it hides all layers below", ErrRefused)
		}
		if _, err := u.parent(at[:i]); err != nil {
			return err
		}
		above, err := u.parent(at[:i-1])
		if err != nil {
			return err
		}
		return hide(above, at[i-1])
	case strings.HasPrefix(at[i], whiteoutMeta): // of AUFS itself
		return nil
	case !last || name == "" || name == "." || name == "..":
		return fmt.Errorf("%w: it hides no file", ErrRefused)
	}
	parent, err := u.parent(at[:i])
	if err != nil {
		return err
	}
	return u.whiteout(parent, name)
}

// place makes what the entry says.
func (u *unpacker) place(h *tar.Header, at []string, content io.Reader) error {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink, tar.TypeGNUSparse:
	case tar.TypeFifo:
		u.layer.LeftOut.Devices++
		return nil
	case tar.TypeChar, tar.TypeBlock:
		if at[0] != "dev" { // which each sandbox has of its own
			return fmt.Errorf("%w: it is a device", ErrRefused)
		}
		u.layer.LeftOut.Devices++
		return nil
	default:
		return fmt.Errorf("%w: it is a file of the unknown type %q", ErrRefused, h.Typeflag)
	}
	parent, err := u.parent(at[:len(at)-1])
	if err != nil {
		return err
	}
	name := at[len(at)-1]
	is, hides, err := u.clear(parent, name)
	if err != nil {
		return err
	}
	if h.Typeflag == tar.TypeDir {
		return u.directory(h, parent, at, is, hides)
	}
	if is {
		return fmt.Errorf("%w: there is a directory of that name in the same layer", ErrRefused)
	}
	switch h.Typeflag {
	case tar.TypeSymlink:
		return u.symlink(h, parent, name)
	case tar.TypeLink:
		return u.link(h, parent, name)
	}
	return u.regular(h, parent, name, content)
}

func (u *unpacker) directory(h *tar.Header, parent int, at []string, is, hides bool) error {
	name := at[len(at)-1]
	if !is {
		if err := unix.Mkdirat(parent, name, 0o755); err != nil {
			return &fs.PathError{Op: "mkdir", Path: name, Err: err}
		}
	}
	if hides {
		if err := hide(parent, name); err != nil {
			return err
		}
	}
	mode := u.mode(h)
	if !u.own {
		mode |= 0o700 // or its owner, who has all of it here, cannot remove it
	}
	d := directory{path.Join(at...), mode, h.ModTime}
	if u.names += len(d.at); u.names > maxNames {
		return fmt.Errorf("%w: the names of its directories have more than %d bytes", ErrRefused, maxNames)
	}
	u.dirs = append(u.dirs, d)
	return u.chown(h, parent, name)
}

// mode returns the permissions that an entry keeps: no program gives its user another's powers.
func (u *unpacker) mode(h *tar.Header) uint32 {
	if h.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 {
		u.layer.LeftOut.SetID++
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "SCHILY.xattr.") || strings.HasPrefix(key, "LIBARCHIVE.xattr.") {
			u.layer.LeftOut.Xattrs++
		}
	}
	return uint32(h.Mode) & (0o777 | unix.S_ISVTX)
}

func (u *unpacker) symlink(h *tar.Header, parent int, name string) error {
	if h.Linkname == "" || len(h.Linkname) > maxPath || strings.ContainsRune(h.Linkname, 0) {
		return fmt.Errorf("%w: it is a link to no path", ErrRefused)
	}
	if err := unix.Symlinkat(h.Linkname, parent, name); err != nil { // followed inside of sandboxes alone
		return &fs.PathError{Op: "symlink", Path: name, Err: err}
	}
	if err := u.chown(h, parent, name); err != nil {
		return err
	}
	return setTime(parent, name, h.ModTime)
}

func (u *unpacker) link(h *tar.Header, parent int, name string) error {
	to, err := steps(h.Linkname, u.limits.Depth)
	if err != nil {
		return fmt.Errorf("link to %.256q: %w", h.Linkname, err)
	}
	if len(to) == 0 {
		return fmt.Errorf("%w: it is a link to the layer's root", ErrRefused)
	}
	dir := u.fd
	if len(to) > 1 {
		if dir, err = openBeneath(u.fd, path.Join(to[:len(to)-1]...), unix.O_PATH|unix.O_DIRECTORY); err != nil {
			return fmt.Errorf("%w: it is a link to %.256q, which is not in the layer (%w)", ErrRefused, h.Linkname, err)
		}
		defer unix.Close(dir)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(dir, to[len(to)-1], &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("%w: it is a link to %.256q, which is not in the layer (%w)", ErrRefused, h.Linkname, err)
	}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFLNK {
		return fmt.Errorf("%w: it is a link to %.256q, which is no file", ErrRefused, h.Linkname)
	}
	if err := unix.Linkat(dir, to[len(to)-1], parent, name, 0); err != nil {
		return &fs.PathError{Op: "link", Path: name, Err: err}
	}
	return nil
}

func (u *unpacker) regular(h *tar.Header, parent int, name string, content io.Reader) error {
	if h.Size < 0 || h.Size > u.limits.Size-u.layer.Size {
		return fmt.Errorf("%w: the image is larger than %d bytes", ErrRefused, u.limits.Size)
	}
	u.layer.Size += h.Size
	f, err := u.file(parent, name)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(f, content); err != nil {
		return fmt.Errorf("cannot write: %w", err)
	}
	if err := u.chown(h, parent, name); err != nil {
		return err
	}
	if err := unix.Fchmod(int(f.Fd()), u.mode(h)); err != nil {
		return fmt.Errorf("cannot set its mode: %w", err)
	}
	return setTime(parent, name, h.ModTime)
}

// chown gives a file its owners, where this process can: else all of them are its user's.
func (u *unpacker) chown(h *tar.Header, parent int, name string) error {
	uid, gid := h.Uid, h.Gid
	if uid < 0 || uid > lastID || gid < 0 || gid > lastID {
		u.layer.LeftOut.Owners++
	}
	if !u.own {
		return nil
	}
	known := func(id int) int {
		if id < 0 || id > lastID {
			return nobody
		}
		return id
	}
	if err := unix.Fchownat(parent, name, known(uid), known(gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "chown", Path: name, Err: err}
	}
	return nil
}

// setTime sets when a file changed, as well as its file system can tell.
func setTime(parent int, name string, t time.Time) error {
	seconds := min(max(t.Unix(), 0), math.MaxInt32)
	at := unix.Timespec{Sec: seconds, Nsec: int64(t.Nanosecond())}
	if err := unix.UtimesNanoAt(parent, name, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "utimensat", Path: name, Err: err}
	}
	return nil
}

// finish gives directories their modes and times, those inside first. Of two entries the last counts.
func (u *unpacker) finish() error {
	done := map[string]bool{}
	for _, d := range slices.Backward(u.dirs) {
		if done[d.at] {
			continue
		}
		done[d.at] = true
		fd, err := openBeneath(u.fd, d.at, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		err = errors.Join(unix.Fchmod(fd, d.mode), setTime(fd, ".", d.time))
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("cannot set the mode of %.256q: %w", d.at, err)
		}
	}
	return nil
}

// limited reads no more than a number of bytes, and fails where there are more.
type limited struct {
	from io.Reader
	left int64
	what string
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left < 0 {
		return 0, fmt.Errorf("%w: %s", ErrRefused, l.what)
	}
	n, err := l.from.Read(p[:min(int64(len(p)), l.left+1)])
	if l.left -= int64(n); l.left < 0 {
		return 0, fmt.Errorf("%w: %s", ErrRefused, l.what)
	}
	return n, err
}

// buffered is the size of what is read at once, in bytes.
const buffered = 256 << 10

func buffer(r io.Reader) *bufio.Reader { return bufio.NewReaderSize(r, buffered) }
