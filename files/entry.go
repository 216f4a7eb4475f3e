package files

import (
	"fmt"
	"os/user"
	gopath "path"
	"strconv"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Type tells files of different kinds apart.
type Type string

// The types of files.
const (
	Regular Type = "file"
	Dir     Type = "dir"
	Symlink Type = "symlink"
	Other   Type = "other" // a FIFO, a socket, a device
)

// Entry tells about a file: of a link, about the link itself. Where a path or a
// target is not UTF-8, its text has U+FFFD for what is none, and the bytes stand
// beside it.
type Entry struct {
	Name         string    `json:"name"`
	Path         string    `json:"path"` // absolute
	PathBase64   []byte    `json:"path_base64,omitempty"`
	Type         Type      `json:"type"`
	Size         int64     `json:"size"`  // bytes; of anything but a file what the file system says
	Mode         string    `json:"mode"`  // permissions, set-id and sticky bits, in octal: "0644"
	Owner        string    `json:"owner"` // name, or number where it has none
	Group        string    `json:"group"`
	ModifiedAt   time.Time `json:"modified_at"`
	Target       *string   `json:"target,omitempty"` // of a link, as it stands there
	TargetBase64 []byte    `json:"target_base64,omitempty"`
	Unreadable   bool      `json:"unreadable,omitempty"` // in a list: what is in the directory should be there, and cannot be read
}

// Stat tells about a file, of a link about the link itself.
func (r *Root) Stat(path string) (Entry, error) {
	p, err := r.place(path)
	if err != nil {
		return Entry{}, failure("stat", path, err)
	}
	defer p.close()
	st, err := p.stat()
	if err != nil {
		return Entry{}, failure("stat", path, err)
	}
	return new(names).entry(p.fd(), p.base, "/"+p.name, &st), nil
}

// StatTarget tells about what a path leads to in the end, following links.
func (r *Root) StatTarget(path string) (Entry, error) {
	p, err := r.target(path, nil)
	if err != nil {
		return Entry{}, failure("stat", path, err)
	}
	defer p.close()
	st, err := p.stat()
	if err != nil {
		return Entry{}, failure("stat", path, err)
	}
	return new(names).entry(p.fd(), p.base, "/"+p.name, &st), nil
}

// entry describes the file with that name in the directory.
func (n *names) entry(dir int, base, path string, st *unix.Stat_t) Entry {
	path = gopath.Clean(path)
	e := Entry{
		Name: gopath.Base(path), Path: path, Type: typeOf(st), Size: st.Size,
		Mode:       fmt.Sprintf("%04o", st.Mode&0o7777),
		Owner:      n.user(st.Uid),
		Group:      n.group(st.Gid),
		ModifiedAt: told(time.Unix(st.Mtim.Unix())),
	}
	e.PathBase64 = exact(path)
	if e.Type == Symlink {
		if link, err := readLink(dir, base); err == nil {
			e.Target, e.TargetBase64 = &link, exact(link)
		}
	}
	return e
}

// told returns the nearest time that RFC 3339, and the clients' calendars, can tell: files can have others.
func told(t time.Time) time.Time {
	first, last := time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	switch t = t.UTC(); {
	case t.Before(first):
		return first
	case t.After(last):
		return last
	}
	return t
}

// exact returns the bytes of what JSON cannot have as text.
func exact(s string) []byte {
	if utf8.ValidString(s) {
		return nil
	}
	return []byte(s)
}

func typeOf(st *unix.Stat_t) Type {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return Regular
	case unix.S_IFDIR:
		return Dir
	case unix.S_IFLNK:
		return Symlink
	}
	return Other
}

// names remembers the names of users and groups for as long as one call lasts.
type names struct {
	users, groups map[uint32]string
}

func (n *names) user(id uint32) string {
	return look(&n.users, id, func(id string) string {
		if u, err := user.LookupId(id); err == nil {
			return u.Username
		}
		return id
	})
}

func (n *names) group(id uint32) string {
	return look(&n.groups, id, func(id string) string {
		if g, err := user.LookupGroupId(id); err == nil {
			return g.Name
		}
		return id
	})
}

func look(known *map[uint32]string, id uint32, find func(string) string) string {
	if name, ok := (*known)[id]; ok {
		return name
	}
	if *known == nil {
		*known = map[uint32]string{}
	}
	name := find(strconv.FormatUint(uint64(id), 10))
	(*known)[id] = name
	return name
}

// etag returns a tag that changes with the file: an entity-tag of HTTP (RFC 9110
// §8.8.3), which is strong as far as the file system's clock can tell changes apart.
func etag(st *unix.Stat_t) string {
	return fmt.Sprintf(`"%x-%x-%x-%x"`, st.Ino, st.Size, unix.TimespecToNsec(st.Mtim), unix.TimespecToNsec(st.Ctim))
}
